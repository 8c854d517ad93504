"""Damaged and hostile images, read by region: a named reason, and memory that stays small."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice, product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.readers.regions import RegionLimits, open_regions
from tests.bad_images import huge_images, tiff, zeros_deflated
from tests.faults.mutate import mutated
from tests.region_files import FILES, grey, ome_tiff, ome_zarr, ref_to, write

INFLATED = 400_000_000
BOMB_LIMIT = 150_000_000
LIMITS = RegionLimits(memory_bytes=8 << 20, decode_seconds=5)


@contextmanager
def little_memory() -> Iterator[None]:
    """The block never holds much more memory than there was."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    yield
    assert resident("VmHWM") - before < BOMB_LIMIT


def resident(name: str) -> int:
    """Bytes of a line of the kernel's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{name}:")[2].split()[0])


def read_all(path: Path, fragment: str = "") -> None:
    with open_regions(ref_to(path, fragment), LIMITS) as source:
        for level, about in enumerate(source.levels):
            height, width = about.shape
            corners = product(range(0, height, 64), range(0, width, 64))
            for y, x in islice(corners, 16):  # enough for all of what is not damaged
                source.read(Box(y, x, min(y + 64, height), min(x + 64, width)), level)


def refusal(path: Path, fragment: str = "") -> InputError:
    with little_memory(), pytest.raises(InputError) as refused:
        read_all(path, fragment)
    assert path.name in refused.value.detail
    return refused.value


def with_tag(data: bytes, code: int, value: int, page: int = 0) -> bytes:
    """A little-endian classic TIFF with another number in a tag of one of its pages."""
    changed = bytearray(data)
    (offset,) = struct.unpack_from("<I", data, 4)
    for _ in range(page):
        (n,) = struct.unpack_from("<H", data, offset)
        (offset,) = struct.unpack_from("<I", data, offset + 2 + 12 * n)
    (n,) = struct.unpack_from("<H", data, offset)
    for at in range(offset + 2, offset + 2 + 12 * n, 12):
        tag, kind, count, place = struct.unpack_from("<HHII", data, at)
        if tag == code:
            width = "H" if kind == 3 else "I"
            inline = count * struct.calcsize(width) <= 4
            if count == 1 and kind == 3 and value > 65535:
                struct.pack_into("<HHII", changed, at, tag, 4, 1, value)
            else:
                struct.pack_into(f"<{width}", changed, at + 8 if inline else place, value)
            return bytes(changed)
    raise AssertionError(f"no tag {code}")


def tiled() -> bytes:
    return tiff(grey(), tile=(32, 32), compression="deflate")


def test_a_cut_tile_spoils_only_the_regions_that_meet_it(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.tif", tiled()[:-40])
    with open_regions(ref_to(path)) as source:
        np.testing.assert_array_equal(source.read(Box(0, 0, 32, 32))[:, :, 0], grey()[:32, :32])
        with pytest.raises(
            InputError, match=r"cut\.tif: the file ends within its strip or tile 11"
        ):
            source.read(Box(70, 100, 80, 105))


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        (324, 0xFFFFFF00, Reason.TRUNCATED),
        (325, 0, Reason.TRUNCATED),
        (325, 0xFFFF, Reason.TRUNCATED),
        (322, 1 << 20, Reason.CORRUPT),
        (323, 1 << 20, Reason.TOO_LARGE),
        (322, 0, Reason.CORRUPT),
        (256, 0, Reason.CORRUPT),
        (257, 0xFFFFFFFF, Reason.TOO_LARGE),
        (258, 3, Reason.UNSUPPORTED_PIXEL_TYPE),
    ],
)
def test_numbers_of_a_tiff_that_lead_nowhere(
    tmp_path: Path, code: int, value: int, reason: Reason
) -> None:
    path = write(tmp_path / "a.tif", with_tag(tiled(), code, value))
    assert refusal(path).reason in {reason, Reason.CORRUPT, Reason.TOO_LARGE}


BOMBS: dict[str, Callable[[], bytes]] = {
    "deflate": lambda: zeros_deflated(INFLATED),
    "zstd": lambda: imagecodecs.zstd_encode(bytes(INFLATED)),
    "lzma": lambda: imagecodecs.lzma_encode(bytes(INFLATED // 4)),
    "packbits": lambda: b"\x81\0" * (INFLATED // 128),
}


@pytest.mark.parametrize("compression", BOMBS)
def test_a_tile_that_inflates_without_end(tmp_path: Path, compression: str) -> None:
    bomb = BOMBS[compression]()
    path = tmp_path / "bomb.tif"
    options = {"tile": (64, 64), "compression": compression, "metadata": None}
    tifffile.imwrite(path, iter([bomb]), shape=(64, 64), dtype="uint8", **options)
    with little_memory():
        try:
            with open_regions(ref_to(path), LIMITS) as source:
                pixels = source.read(Box(0, 0, 64, 64))
        except InputError as error:
            assert error.reason in {Reason.CORRUPT, Reason.TRUNCATED, Reason.TOO_LARGE}
        else:
            assert not pixels.any()  # the decoder stopped when the tile was full


def test_sub_directories_that_lead_back(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(grey(), subifds=1, tile=(32, 32))
        writer.write(grey()[::2, ::2], subfiletype=1, tile=(32, 32))
    data = path.read_bytes()
    (first,) = struct.unpack_from("<I", data, 4)
    for offset, reason in ((first, Reason.CORRUPT), (len(data) + 8, Reason.TRUNCATED)):
        write(path, with_tag(data, 330, offset))
        assert refusal(path).reason is reason


def test_a_description_without_end(tmp_path: Path) -> None:
    """In a file with holes, which is as large as it says."""
    path = write(tmp_path / "a.tif", tiff(grey(), description="x" * 99, metadata=None))
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HH", 270, 2)) + 4
    struct.pack_into("<I", data, at, 1 << 30)
    write(path, bytes(data))
    os.truncate(path, (1 << 30) + (1 << 20))
    error = refusal(path)
    assert error.reason is Reason.TOO_LARGE
    assert "1,073,741,824 values of tag 270" in error.detail


def test_a_chain_of_pages_that_leads_back_ends(tmp_path: Path) -> None:
    data = bytearray(tiff(grey(), tile=(32, 32)))
    (first,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * n, first)
    with open_regions(ref_to(write(tmp_path / "a.tif", bytes(data)))) as source:
        assert source.header.n_frames == 1


@pytest.mark.parametrize("name", huge_images())
def test_sizes_that_no_file_holds(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, huge_images()[name])
    assert refusal(path).reason in {Reason.TOO_LARGE, Reason.CORRUPT, Reason.TRUNCATED}


PIXELS = ('<Pixels DimensionOrder="XYZCT" SizeX="109" SizeY="83" SizeZ="{z}" SizeC="1" SizeT="1" '
          'Type="uint16">{data}</Pixels>')  # fmt: skip


def ome(data: str = "<TiffData/>", before: str = "", z: object = 1) -> str:
    pixels = PIXELS.format(z=z, data=data)
    return f'<?xml version="1.0"?>{before}<OME><Image>{pixels}</Image></OME>'


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
OUTSIDE = '<!DOCTYPE OME [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
FILE = '<TiffData IFD="0"{}><UUID FileName="{}">urn:uuid:1</UUID></TiffData>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ome("&e11;", f'<!DOCTYPE OME [<!ENTITY e0 "lol">{BOMB}]>'), "document type"),
        (ome("&e;", OUTSIDE), "document type"),
        (ome(before='<!DOCTYPE OME SYSTEM "http://127.0.0.1/a.dtd">'), "document type"),
        (ome()[:-9], "OME-XML"),
        (ome(z=10**8), "planes are read"),
        (ome(z=-1), "SizeZ"),
        (ome(z="9" * 5000), "SizeZ"),
        (ome(FILE.format("", "../../etc/passwd") + FILE.format("", "b.tif")), "2 files"),
        (ome('<TiffData IFD="7"/>'), "page 7; the file has 0 to 0"),
        (ome('<TiffData IFD="99999999999"/>'), "IFD"),
        (ome('<TiffData FirstZ="3"/>'), "OME-XML with a page for"),
        (ome().replace("109", "110"), "OME-XML of (83, 110)"),
        (ome().replace("XYZCT", "ZZZZZ"), "DimensionOrder"),
        (ome("<TiffData IFD='0'/>" * 100_001), "more than 100,000 TiffData"),
        ("<OME></OME>", "without an image"),
        ("<OME>" * 100_000, "OME-XML"),
    ],
)
def test_ome_xml_that_is_an_attack_or_nonsense(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path / "a.tif", tiff(grey(), description=text, metadata=None))
    error = refusal(path, "#z=0")
    assert words in error.detail
    assert error.reason in {Reason.CORRUPT, Reason.UNSUPPORTED_FORMAT, Reason.NOT_FOUND}


def test_a_page_that_an_ome_tiff_does_not_have(tmp_path: Path) -> None:
    ome_tiff(tmp_path / "a.tif")
    assert "z=3; the image has z=0 to 2" in refusal(tmp_path / "a.tif", "#z=3").detail
    path = write(tmp_path / "b.tif", tiled())
    assert "z=1; the image has z=0 to 0" in refusal(path, "#z=1").detail
    assert "no plane" in refusal(path, "#page=1").detail


Change = Callable[[Path], None]


def group_file(folder: Path) -> Path:
    return next(folder / name for name in ("zarr.json", ".zattrs") if (folder / name).is_file())


def changed(name: str, *keys: Any, to: object) -> Change:
    """Writes another value into a JSON file below an OME-Zarr of format 3."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to
        path.write_text(json.dumps(content))

    return change


def dataset(path: object) -> Change:
    where = ("attributes", "ome", "multiscales", 0, "datasets", 0, "path")
    return changed("zarr.json", *where, to=path)


def replaced(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data) and None


def linked(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(target)

    return change


def piped(folder: Path) -> None:
    (folder / "0/c/0/0/0/0/0").unlink()
    os.mkfifo(folder / "0/c/0/0/0/0/0")


CHUNK = "0/c/0/0/0/0/0"
ZARR_3 = ("attributes", "ome", "multiscales", 0)
BAD_ZARRS: dict[str, tuple[str, Change, Reason]] = {
    "dataset above": ("zstd_3", dataset("../other/0"), Reason.UNSAFE_MEMBER),
    "dataset between": ("zstd_3", dataset("0/../../other/0"), Reason.UNSAFE_MEMBER),
    "dataset absolute": ("zstd_3", dataset("/etc"), Reason.UNSAFE_MEMBER),
    "dataset nul": ("zstd_3", dataset("0\0"), Reason.UNSAFE_MEMBER),
    "dataset nothing": ("zstd_3", dataset("nothing"), Reason.NOT_FOUND),
    "dataset number": ("zstd_3", dataset(5), Reason.CORRUPT),
    "dataset itself": ("zstd_3", dataset("."), Reason.CORRUPT),
    "level linked out": ("zstd_3", linked("0", "../elsewhere"), Reason.UNSAFE_MEMBER),
    "chunk linked out": ("zstd_3", linked(CHUNK, "../../../../../../../elsewhere"),
                         Reason.UNSAFE_MEMBER),
    "metadata linked out": ("zstd_3", linked("0/zarr.json", "../../elsewhere"),
                            Reason.UNSAFE_MEMBER),
    "chunk is a pipe": ("zstd_3", piped, Reason.NOT_A_FILE),
    "no json": ("zstd_3", replaced("zarr.json", b'{"multiscales"'), Reason.CORRUPT),
    "deep json": ("zstd_3", replaced("zarr.json", b'{"multiscales":' * 200_000), Reason.CORRUPT),
    "large json": ("zstd_3", replaced("zarr.json", b'"multiscales"'.ljust(17 << 20)),
                   Reason.TOO_LARGE),
    "no image": ("zstd_3", changed("zarr.json", *ZARR_3, to=None), Reason.UNSUPPORTED_FORMAT),
    "no levels": ("zstd_3", changed("zarr.json", *ZARR_3, "datasets", to=[]), Reason.CORRUPT),
    "axes": ("zstd_3", changed("zarr.json", *ZARR_3, "axes", 1, "name", to="q"),
             Reason.UNSUPPORTED_FORMAT),
    "axes few": ("zstd_3", changed("zarr.json", *ZARR_3, "axes", to=[]),
                 Reason.UNSUPPORTED_FORMAT),
    "scale": ("zstd_3", changed("zarr.json", *ZARR_3, "coordinateTransformations",
                                to=[{"type": "scale", "scale": [1]}]), Reason.CORRUPT),
    "huge shape": ("zstd_3", changed("0/zarr.json", "shape", to=[2, 4, 3, 1 << 38, 1 << 38]),
                   Reason.TOO_LARGE),
    "endless shape": ("zstd_3", changed("0/zarr.json", "shape", to=[2, 4, 3, 1 << 70, 9]),
                      Reason.CORRUPT),
    "huge chunk": ("zstd_3", changed("0/zarr.json", "chunk_grid", "configuration", "chunk_shape",
                                     to=[1, 1, 1, 1 << 20, 1 << 20]), Reason.TOO_LARGE),
    "empty chunk": ("zstd_3", changed("0/zarr.json", "chunk_grid", "configuration", "chunk_shape",
                                      to=[1, 1, 1, 0, 32]), Reason.CORRUPT),
    "levels swapped": ("zstd_3", changed("1/zarr.json", "shape", to=[2, 4, 3, 166, 218]),
                       Reason.CORRUPT),
    "codec": ("zstd_3", changed("0/zarr.json", "codecs", 1, "name", to="numcodecs.pickle"),
              Reason.UNSUPPORTED_FORMAT),
    "two codecs": ("zstd_3", changed("0/zarr.json", "codecs", to=[{"name": "bytes"},
                   {"name": "zstd"}, {"name": "zstd"}]), Reason.UNSUPPORTED_FORMAT),
    "data type": ("zstd_3", changed("0/zarr.json", "data_type", to="object"),
                  Reason.UNSUPPORTED_PIXEL_TYPE),
    "objects": ("zlib_2", changed("0/.zarray", "dtype", to="|O"), Reason.UNSUPPORTED_PIXEL_TYPE),
    "pickles": ("zlib_2", changed("0/.zarray", "filters", to=[{"id": "pickle", "protocol": 5}]),
                Reason.UNSUPPORTED_FORMAT),
    "fill": ("zstd_3", changed("0/zarr.json", "fill_value", to="0xff"),
             Reason.UNSUPPORTED_FORMAT),
    "chunk cut": ("zstd_3", lambda folder: os.truncate(folder / CHUNK, 20), Reason.CORRUPT),
    "chunk empty": ("zstd_3", lambda folder: os.truncate(folder / CHUNK, 0), Reason.CORRUPT),
    "chunk raw cut": ("plain_3", lambda folder: os.truncate(folder / CHUNK, 20), Reason.CORRUPT),
    "checksum": ("gzip_3", lambda folder: os.truncate(folder / CHUNK, 99), Reason.CORRUPT),
    "shard cut": ("shards_3", lambda folder: os.truncate(folder / CHUNK, 99), Reason.TRUNCATED),
    "shard empty": ("shards_3", lambda folder: os.truncate(folder / CHUNK, 0), Reason.TRUNCATED),
    "zstd bomb": ("zstd_3", lambda folder: replaced(CHUNK, imagecodecs.zstd_encode(
        bytes(INFLATED)))(folder), Reason.CORRUPT),
    "gzip bomb": ("gzip_3", lambda folder: gzip_bomb(folder), Reason.CORRUPT),
    "zlib bomb": ("zlib_2", lambda folder: replaced("0/0.0.0.0.0", zeros_deflated(INFLATED))(
        folder), Reason.CORRUPT),
    "blosc bomb": ("blosc_3", lambda folder: replaced(CHUNK, imagecodecs.blosc_encode(
        bytes(INFLATED)))(folder), Reason.CORRUPT),
    "blosc liar": ("blosc_3", lambda folder: blosc_liar(folder), Reason.CORRUPT),
}  # fmt: skip


def gzip_bomb(folder: Path) -> None:
    import google_crc32c

    data = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + zeros_deflated(INFLATED)[2:-4] + bytes(8)
    (folder / CHUNK).write_bytes(data + struct.pack("<I", google_crc32c.value(data)))


def blosc_liar(folder: Path) -> None:
    """A header that promises the right size before blocks that inflate to more."""
    data = bytearray(imagecodecs.blosc_encode(bytes(1 << 20)))
    struct.pack_into("<I", data, 4, 2 * 2 * 32 * 32)
    (folder / CHUNK).write_bytes(data)


@pytest.mark.parametrize("name", BAD_ZARRS)
def test_ome_zarr_that_is_an_attack_or_damaged(tmp_path: Path, name: str) -> None:
    kind, change, reason = BAD_ZARRS[name]
    folder = tmp_path / "a.zarr"
    ome_zarr(folder, kind)
    ome_zarr(tmp_path / "other", kind)
    read_all(folder, "#c=0")
    change(folder)
    error = refusal(folder, "#c=0")
    assert error.reason is reason, error
    assert str(tmp_path) not in error.detail.replace(folder.name, "")


def test_channels_that_no_segmenter_takes_are_to_be_chosen(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "a.zarr", "zstd_3")
    error = refusal(tmp_path / "a.zarr")
    assert error.reason is Reason.UNSUPPORTED_CHANNELS
    assert "4 channels" in error.detail
    assert "#c=0" in error.detail


def test_memory_is_measured() -> None:
    with pytest.raises(AssertionError), little_memory():
        assert bytearray(b"1") * (2 * BOMB_LIMIT)


def test_regions_of_a_large_image_take_little_memory(tmp_path: Path) -> None:
    """900 megapixels, of which 60 regions are read by two threads."""
    side, tile = 30_000, 512
    pixels = np.tile(np.arange(tile, dtype=np.uint16), (tile, 1)) * 100
    packed = imagecodecs.deflate_encode(pixels)
    path = tmp_path / "large.tif"
    tifffile.imwrite(
        path, (packed for _ in range((-(-side // tile)) ** 2)), shape=(side, side), dtype="uint16",
        tile=(tile, tile), compression="deflate", metadata=None,
    )  # fmt: skip
    expected = np.arange(side) % tile * 100

    def read(start: int) -> None:
        for y in range(start, side - tile, 1000):
            box = Box(y, y + 300, y + tile, y + 300 + tile).clip((side, side))
            got = source.read(box)[:, :, 0]
            np.testing.assert_array_equal(got, np.tile(expected[box.x0 : box.x1], (box.height, 1)))

    limits = RegionLimits(memory_bytes=32 << 20)
    with (
        little_memory(),
        open_regions(ref_to(path), limits) as source,
        ThreadPoolExecutor(2) as pool,
    ):
        list(pool.map(read, (0, 500)))


def test_a_folder_that_is_no_image(tmp_path: Path) -> None:
    assert refusal(tmp_path).reason is Reason.NOT_A_FILE


def fuzzed(path: Path, originals: list[bytes], seed: str, image: Path, fragment: str) -> None:
    """Damage the file at `path` again and again, and read `image`, of which it is a part."""
    whole = path.read_bytes()
    for index in range(60):
        write(path, mutated(originals, seed, index))
        with suppress(InputError):
            read_all(image, fragment)
    write(path, whole)


def test_a_damaged_tiff_gives_a_reason_or_pixels(tmp_path: Path) -> None:
    originals = [data() for name, data in FILES.items() if name.endswith(".tif")]
    path = write(tmp_path / "a.tif", originals[0])
    with little_memory():
        for seed in range(4):
            fuzzed(path, originals, str(seed), path, "")


def test_a_damaged_pyramid_gives_a_reason_or_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    ome_tiff(path)
    data = path.read_bytes()
    # The numbers and the text are at the beginning; what is behind is pixels.
    with little_memory():
        for seed in range(3):
            fuzzed(path, [data[:20_000], data], f"pyramid {seed}", path, "#z=1,c=1,0")


@pytest.mark.parametrize("kind", ["shards_3", "blosc_2"])
def test_a_damaged_ome_zarr_gives_a_reason_or_pixels(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "a.zarr"
    ome_zarr(folder, kind)
    chunk = "0/c/0/0/1/0/0" if kind == "shards_3" else "0/0/0/1/0/0"
    array = "0/zarr.json" if kind == "shards_3" else "0/.zarray"
    with little_memory():
        for path in (group_file(folder), folder / array, folder / chunk):
            fuzzed(path, [path.read_bytes()], path.name, folder, "#z=1,c=1,0")
