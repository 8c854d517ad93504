"""Images of every format that is read: their pixels, types, frames and hashes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers import Reader, list_collection
from segpipe.records import DecodedImage, Header, ImageRef
from segpipe.spec import Limits
from tests.bad_images import encoded, photo, png, tiff, whole_images


def read(data: bytes, folder: Path, **limits: float) -> DecodedImage:
    """Through a file, its listing and both calls of the reader, which must agree."""
    (folder / "image").write_bytes(data)
    (ref,) = list_collection(str(folder / "image"))
    with Reader(Limits(**limits)) as reader:
        header = reader.header(ref)
        image = reader.read(ref)
    assert header == image.header
    assert (*header.shape, header.channels) == image.pixels.shape
    assert header.dtype == image.pixels.dtype.name
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    return image


def pixels(data: bytes, folder: Path) -> np.ndarray:
    return read(data, folder).pixels


@pytest.mark.parametrize("name", list(whole_images()))
def test_every_good_file_is_read_and_its_header_is_true(tmp_path, name):
    image = read(whole_images()[name], tmp_path)
    assert np.isfinite(image.pixels).all()
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_give_the_pixels_that_were_written(tmp_path, kind):
    flat = photo() // 64 * 64  # few colours, so that a palette holds them
    options = {"lossless": True} if kind == "WEBP" else {}
    source = Image.fromarray(flat)
    source = source.convert("P", palette=Image.Palette.ADAPTIVE) if kind == "GIF" else source
    expected = np.asarray(source.convert("RGB"))
    np.testing.assert_array_equal(pixels(encoded(source, kind, **options), tmp_path), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_reads(tmp_path, mode, progressive):
    data = encoded(Image.fromarray(photo()).convert(mode), "JPEG", progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L" if mode == "L" else "RGB"))
    np.testing.assert_array_equal(pixels(data, tmp_path).squeeze(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_kept(tmp_path, channels):
    deep = (photo().astype(np.uint16) * 257 + 3)[:, :, :channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    as_png = png((64, 48, 16, 0 if channels == 1 else 2), zlib.compress(rows))
    as_pnm = b"P%d 64 48 65535\n" % (5 if channels == 1 else 6) + deep.astype(">u2").tobytes()
    as_tiff = tiff(deep.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    for data in (as_png, as_pnm, as_tiff):
        np.testing.assert_array_equal(pixels(data, tmp_path), deep)


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path):
    rgba = np.dstack([photo(), np.zeros((48, 64), np.uint8)])
    for data in (
        encoded(rgba, "PNG"),
        tiff(rgba, photometric="rgb", extrasamples=["unassalpha"]),
        encoded(rgba, "WEBP", lossless=True, exact=True),
    ):
        np.testing.assert_array_equal(pixels(data, tmp_path), rgba[:, :, :3])
    grey_alpha = rgba[:, :, [0, 3]]
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray(grey_alpha, "LA"), "PNG"), tmp_path), grey_alpha[:, :, :1]
    )


def test_a_palette_with_a_transparent_entry_becomes_its_colours(tmp_path):
    image = Image.fromarray(photo()).convert("P", palette=Image.Palette.ADAPTIVE)
    expected = np.asarray(image.convert("RGB"))
    for data in (
        encoded(image, "PNG", transparency=0),
        encoded(image, "BMP"),
        encoded(image, "TIFF"),
    ):
        np.testing.assert_array_equal(pixels(data, tmp_path), expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_one_bit_becomes_black_and_white(tmp_path, kind):
    image = Image.fromarray(photo()).convert("1")
    expected = np.asarray(image).astype(np.uint8) * 255
    np.testing.assert_array_equal(pixels(encoded(image, kind), tmp_path)[:, :, 0], expected)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (b"P1", b"1 0 1\n010"),
        (b"P2", b"255\n1 2 3 # so\n4 5 6"),
        (b"P3", b"65535\n" + b" ".join(b"%d" % n for n in range(50000, 50018))),
    ],
)
def test_plain_pnm_is_what_it_says(tmp_path, kind, text):
    values = pixels(kind + b"\n# a comment\n3 2\n" + text, tmp_path)
    expected = {
        b"P1": [0, 255, 0, 255, 0, 255],
        b"P2": [1, 2, 3, 4, 5, 6],
        b"P3": list(range(50000, 50018)),
    }
    assert values.ravel().tolist() == expected[kind]


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32",
              "float64"],
)  # fmt: skip
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_types_are_kept(tmp_path, dtype, order):
    values = (photo()[:, :, 0].astype(np.float64) - (100 if dtype[0] in "if" else 0)).astype(dtype)
    expected = values.astype(np.uint8) * 255 if dtype == "bool" else values
    got = pixels(tiff(values, byteorder=order, photometric="minisblack"), tmp_path)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got[:, :, 0], expected)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "zstd", "lzma", "none"])
@pytest.mark.parametrize(
    "layout",
    [{"rowsperstrip": 7}, {"tile": (16, 32)}, {"planarconfig": "separate", "rowsperstrip": 5}],
    ids=["strips", "tiles", "planes"],
)
def test_tiff_layouts_give_the_same_pixels(tmp_path, compression, layout):
    rgb = photo(50, 70)
    stored = np.moveaxis(rgb, -1, 0) if "planarconfig" in layout else rgb
    data = tiff(
        stored, photometric="rgb", bigtiff=True, compression=compression, predictor=False, **layout
    )
    np.testing.assert_array_equal(pixels(data, tmp_path), rgb)


def test_tiff_of_jpeg_tiles_is_what_tifffile_reads(tmp_path):
    data = tiff(photo(50, 70), photometric="rgb", compression="jpeg", tile=(16, 16))
    np.testing.assert_array_equal(pixels(data, tmp_path), tifffile.imread(io.BytesIO(data)))


def test_tiff_white_is_zero_is_turned_over(tmp_path):
    grey = photo()[:, :, 0]
    data = tiff(255 - grey, photometric="miniswhite")
    np.testing.assert_array_equal(pixels(data, tmp_path)[:, :, 0], grey)


def test_tiff_of_two_bits_uses_the_whole_range(tmp_path):
    values = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    got = pixels(tiff(values, bitspersample=2, photometric="minisblack"), tmp_path)
    np.testing.assert_array_equal(got[:, :, 0], values * 85)


def test_only_the_first_of_many_frames_is_read(tmp_path):
    frames = [np.full((8, 8), 40 * index, np.uint8) for index in range(4)]
    images = [Image.fromarray(frame).convert("RGB") for frame in frames]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(images[0], kind, save_all=True, append_images=images[1:])
        image = read(data, tmp_path)
        assert (image.header.format, image.header.n_frames) == (kind.lower(), 4)
        assert image.pixels.max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_applied_once_and_recorded(tmp_path, kind, orientation):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255  # the corner that tells the orientations apart
    stored[:8, 16:] = 90
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read(encoded(stored, kind, exif=exif, **options), tmp_path)
    effective = orientation if 1 <= orientation <= 8 else 1
    transpose = {
        2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
    }.get(effective, lambda a: a)  # fmt: skip
    assert image.header.orientation == effective
    assert np.abs(image.pixels.astype(int) - transpose(stored)).max() <= (
        3 if kind == "JPEG" else 0
    )


def test_real_photographs_are_what_pillow_reads(shared_data):
    files = (
        sorted(shared_data.glob("coco/**/*.jpg"))[:3]
        + sorted(shared_data.glob("nuclei/images/*.png"))[:3]
    )
    assert files
    with Reader(Limits()) as reader:
        for file in files:
            (ref,) = list_collection(str(file))
            got = reader.read(ref).pixels
            mode = "L" if got.shape[2] == 1 else "RGB"
            expected = np.asarray(Image.open(file).convert(mode))
            np.testing.assert_array_equal(got.squeeze(), expected)


def archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz", ".tgz": "w:gz"}
    with tarfile.open(path, mode[path.suffix]) as packed:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


KINDS = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"]


@pytest.mark.parametrize("name", KINDS)
def test_members_of_an_archive_are_read_in_any_order(tmp_path, name):
    files = {f"d/{index}.png": encoded(photo() + index, "PNG") for index in range(5)}
    path = archive(tmp_path / name, {"readme.md": b"no image", **files})
    listing = list_collection(str(path))
    refs = list(listing)
    assert listing.kind == ("zip" if name.endswith(".zip") else "tar")
    assert [ref.path for ref in refs] == list(files)
    assert listing.ignored == 1
    with Reader(Limits()) as reader:
        for ref in (*refs, *refs[::-1]):
            assert reader.header(ref).shape == (48, 64)
            assert reader.read(ref).sha256 == hashlib.sha256(files[ref.path]).hexdigest()
            assert reader.unchanged(ref)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_threads_share_an_archive(tmp_path, name):
    files = {f"{index}.png": encoded(photo() + index, "PNG") for index in range(12)}
    refs = list(list_collection(str(archive(tmp_path / name, files))))
    start = threading.Barrier(4)
    with Reader(Limits()) as reader, ThreadPoolExecutor(4) as pool:

        def hashes(_: int) -> list[str]:
            start.wait()
            return [reader.read(ref).sha256 for ref in refs]

        results = list(pool.map(hashes, range(4)))
    expected = [hashlib.sha256(files[ref.path]).hexdigest() for ref in refs]
    assert results == [expected] * 4


def test_the_directory_of_a_zip_is_read_once(tmp_path, monkeypatch):
    files = {f"{index}.png": encoded(photo(), "PNG") for index in range(5)}
    refs = list(list_collection(str(archive(tmp_path / "a.zip", files))))
    opened: list[object] = []
    original = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile,
        "__init__",
        lambda self, *args, **kwargs: (opened.append(args), original(self, *args, **kwargs))[1],
    )
    with Reader(Limits()) as reader:
        for ref in refs:
            reader.read(ref)
    assert len(opened) == 1


def test_a_changed_file_is_noticed(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(), "PNG"))
    (ref,) = list_collection(str(path))
    with Reader(Limits()) as reader:
        assert reader.unchanged(ref)
        os.utime(path, ns=(0, ref.mtime_ns + 1))
        assert not reader.unchanged(ref)
        os.utime(path, ns=(0, ref.mtime_ns))
        assert reader.unchanged(ref)
        path.unlink()
        assert not reader.unchanged(ref)


@pytest.mark.parametrize(
    ("limits", "word"), [({"max_pixels": 48 * 64 - 1}, "pixels"), ({"max_file_bytes": 99}, "bytes")]
)
def test_a_limit_is_named_with_both_numbers(tmp_path, limits, word):
    (tmp_path / "a.png").write_bytes(encoded(photo(), "PNG"))
    (ref,) = list_collection(str(tmp_path))
    with Reader(Limits(**limits)) as reader:
        for call in (reader.header, reader.read):
            with pytest.raises(InputError) as caught:
                call(ref)
            assert caught.value.reason is Reason.TOO_LARGE
            assert f"{next(iter(limits.values())):,}" in caught.value.detail
            assert word in caught.value.detail


def test_images_at_the_limit_are_read(tmp_path):
    assert read(encoded(photo(), "PNG"), tmp_path, max_pixels=48 * 64).header == Header(
        48, 64, 3, "uint8", "png", read(encoded(photo(), "PNG"), tmp_path).header.decoder
    )


def test_what_the_listing_refused_is_not_opened():
    ref = ImageRef("file:///nowhere", "x", 0, 0, Reason.UNSAFE_MEMBER, "a link")
    with Reader(Limits()) as reader:
        with pytest.raises(InputError, match="a link") as caught:
            reader.read(ref)
        assert caught.value.reason is Reason.UNSAFE_MEMBER
        assert reader.unchanged(ref)


def test_a_gzip_that_is_no_tar_is_refused_as_a_source(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"not a tar" * 100))
    with pytest.raises(SpecError, match=r"a\.tar\.gz"):
        list_collection(str(tmp_path / "a.tar.gz"))
