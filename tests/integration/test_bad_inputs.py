"""Every kind of bad or odd input ends as what is promised: pixels, or one named reason."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from segpipe.errors import InputError, Reason, SpecError
from segpipe.pipeline import process_chunk
from segpipe.readers import Reader, list_collection
from segpipe.records import DecodedImage, ImageRef
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import Limits, RunSpec, load_config
from segpipe.store import Snapshot, create_store
from tests import bad_images
from tests.bad_images import OK, encoded, make_bad_inputs, photo, tiff
from tests.generated import ThresholdSegmenter, chunk_of

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("bad")
    return folder, make_bad_inputs(folder)


def outcome(ref: ImageRef, reader: Reader) -> str:
    try:
        reader.read(ref)
    except InputError as error:
        assert error.detail
        return error.reason
    return OK


def result(data: bytes, folder: Path, **limits: float) -> DecodedImage:
    (folder / "image.png").write_bytes(data)
    (ref,) = list_collection(str(folder / "image.png"))
    with Reader(Limits(**limits)) as reader:
        return reader.read(ref)


def reason(data: bytes, folder: Path, **limits: float) -> Reason:
    with pytest.raises(InputError) as caught:
        result(data, folder, **limits)
    return caught.value.reason


def test_every_bad_input_is_listed_once_and_ends_as_promised(bad_folder):
    folder, expected = bad_folder
    with Reader(Limits()) as reader, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of divisions, of casts
        found = {ref.path: outcome(ref, reader) for ref in list_collection(str(folder))}
    assert found.keys() == expected.keys()
    assert {name: end for name, end in found.items() if end not in expected[name]} == {}


def test_the_header_alone_never_contradicts_the_outcome(bad_folder):
    """`header` may accept what turns out to be damaged, and never refuses what is good."""
    folder, expected = bad_folder
    with Reader(Limits()) as reader:
        for ref in list_collection(str(folder)):
            try:
                reader.header(ref)
            except InputError as error:
                assert error.reason in expected[ref.path], ref.path


def _peak_memory(script: str, *arguments: str) -> int:
    """Growth in bytes of the peak resident memory while `script` runs in a fresh process."""
    measured = f"""
import sys
from segpipe.errors import InputError
from segpipe.readers import Reader, list_collection
from segpipe.spec import Limits
import imagecodecs, tifffile
from PIL import Image
imagecodecs.png_decode, imagecodecs.webp_decode, imagecodecs.zlib_decode
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
before = peak()
reader = Reader(Limits())
{script}
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", measured, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_huge_headers_are_refused_within_100_megabytes(tmp_path):
    for name, data in bad_images.huge_images().items():
        (tmp_path / name).write_bytes(data)
    script = """
for ref in list_collection(sys.argv[1]):
    for call in (reader.header, reader.read):
        try:
            call(ref)
            raise SystemExit(f"{ref.path} was accepted")
        except InputError as error:
            assert error.reason == "too_large", (ref.path, error)
"""
    assert _peak_memory(script, str(tmp_path)) < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_metadata_that_inflates_to_200_megabytes_is_never_inflated(tmp_path):
    for name, data in bad_images.inflating_metadata(200_000_000).items():
        (tmp_path / name).write_bytes(data)
    script = """
for ref in list_collection(sys.argv[1]):
    assert reader.read(ref).pixels.shape == (8, 8, 1)
"""
    assert _peak_memory(script, str(tmp_path)) < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_tiff_strip_that_inflates_is_stopped_at_its_size(tmp_path):
    good = tiff(np.zeros((16, 16), np.uint8), compression="deflate")
    bomb = bad_images.zeros_deflated(200_000_000)
    data = bytearray(good) + bomb
    (ifd,) = struct.unpack_from("<I", data, 4)
    for entry in range(ifd + 2, ifd + 2 + 12 * struct.unpack_from("<H", data, ifd)[0], 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (273, 279):  # StripOffsets, StripByteCounts
            value = len(good) if tag == 273 else len(bomb)
            struct.pack_into("<HHII", data, entry, tag, 4, 1, value)
    (tmp_path / "bomb.tif").write_bytes(data)
    script = """
for ref in list_collection(sys.argv[1]):
    try:
        reader.read(ref)
    except InputError as error:
        assert error.reason == "corrupt", error
"""
    assert _peak_memory(script, str(tmp_path)) < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_plain_numbers_between_comments_take_a_few_times_their_file(tmp_path):
    """As one comment per number; 9 MB of them, which took 700 MB."""
    side = 1750
    (tmp_path / "a.pgm").write_bytes(b"P2 %d %d 255\n" % (side, side) + b"7#\n" * side**2)
    script = """
for ref in list_collection(sys.argv[1]):
    assert (reader.read(ref).pixels == 7).all()
"""
    assert _peak_memory(script, str(tmp_path)) < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_what_fails_leaves_no_memory_behind(tmp_path, kind):
    """libpng leaves a decoder by a jump, over whatever the decoder meant to clear away."""
    whole = photo(512, 512)
    data = {
        "png": encoded(whole, "PNG", compress_level=1),
        "tif": tiff(whole, photometric="rgb", compression="jpeg", tile=(512, 512)),
        "webp": encoded(whole, "WEBP", lossless=True, method=0),
    }[kind]
    (tmp_path / f"a.{kind}").write_bytes(
        data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :]
    )
    script = """
(ref,) = list_collection(sys.argv[1])
nothings = sys.getrefcount(None)
for _ in range(200):
    try:
        reader.read(ref)
    except InputError:
        pass
assert nothings - sys.getrefcount(None) < 100
"""
    assert _peak_memory(script, str(tmp_path)) < 50e6


@pytest.mark.timeout(30)
@pytest.mark.parametrize("side", [64, 4096])
def test_a_jpeg_of_2000_scans_is_read_or_stopped(tmp_path, side):
    """Left alone, the large one takes minutes; the time limit of this test is what can fail."""
    data = bad_images.many_scans(side, 2000)
    if side == 64:
        assert result(data, tmp_path).pixels.shape == (64, 64, 1)
    else:
        assert reason(data, tmp_path, decode_seconds=0.2) is Reason.TIME_LIMIT


@pytest.mark.timeout(30)
def test_a_run_length_bitmap_is_stopped(tmp_path):
    side = 4096
    runs = (b"\1\1" * side + b"\0\0") * side + b"\0\1"
    palette = b"".join(bytes((value, 0, value, 0)) for value in range(256))
    sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    offset = 14 + len(sizes) + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset)
    data = head + sizes + palette + runs
    assert reason(data, tmp_path, decode_seconds=0.1) is Reason.TIME_LIMIT


def test_a_tiff_of_many_tiles_is_stopped(tmp_path):
    data = tiff(np.zeros((2048, 2048), np.uint8), tile=(16, 16), compression="deflate")
    assert reason(data, tmp_path, decode_seconds=0.01) is Reason.TIME_LIMIT


def test_a_gif_of_2000_frames_gives_the_first_and_their_number(tmp_path):
    frames = [bad_images.Image.new("L", (16, 16), index % 255) for index in range(2000)]
    image = result(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), tmp_path)
    assert image.header.n_frames == 2000
    assert image.pixels.max() == 0


def test_a_page_list_that_leads_to_itself_has_one_page(tmp_path):
    assert result(bad_images.looping_tiff(), tmp_path).header.n_frames == 1


def test_no_truncation_is_ever_filled_up(tmp_path):
    """Cut anywhere, a file gives the pixels of the whole one or none at all."""
    whole = bad_images.whole_images()
    for name in ("rgb.png", "rgb.jpg", "progressive.jpg", "rgb.tif", "rgb.webp", "rgb.bmp",
                 "rgb.ppm", "palette.gif"):  # fmt: skip
        expected = result(whole[name], tmp_path).pixels
        for length in range(0, len(whole[name]), max(1, len(whole[name]) // 60)):
            try:
                got = result(whole[name][:length], tmp_path).pixels
            except InputError as error:
                assert error.reason in bad_images.DAMAGED, (name, length)
            else:
                np.testing.assert_array_equal(got, expected, err_msg=f"{name} cut at {length}")


def test_nothing_is_started_to_read_an_eps(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    eps = bad_images.refused_images()["drawing.eps"][0]
    assert reason(eps, tmp_path) is Reason.UNSUPPORTED_FORMAT


def test_nonfinite_samples_are_counted(tmp_path):
    whole = bad_images.whole_images()
    some, every = result(whole["some_nan.tif"], tmp_path), result(whole["all_nan.tif"], tmp_path)
    assert (some.n_nonfinite, some.pixels.ravel().tolist()) == (3, [0, 0, 0, 1])
    assert (every.n_nonfinite, every.pixels.any()) == (16, False)
    large = result(whole["float64.tif"], tmp_path)
    assert (large.n_nonfinite, float(large.pixels.max())) == (0, 1e300)


# Archives


def write_zip(path: Path, files: dict[str, bytes]) -> str:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of duplicates, which are meant
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("same.png", files["good.png"])
        archive.writestr("same.png", files["good.png"][::-1])
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "good.png")
        device = zipfile.ZipInfo("device.png")
        device.external_attr = (stat.S_IFCHR | 0o666) << 16
        archive.writestr(device, "")
    return str(path)


def write_tar(path: Path, files: dict[str, bytes]) -> str:
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode) as archive:
        same = [("same.png", files["good.png"]), ("same.png", files["good.png"][::-1])]
        for name, data in [*files.items(), *same]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        kinds = {"link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE,
                 "device.png": tarfile.CHRTYPE, "pipe.png": tarfile.FIFOTYPE}  # fmt: skip
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "good.png"
            archive.addfile(info)
    return str(path)


def hostile_members() -> dict[str, bytes]:
    good = encoded(photo(), "PNG")
    return {
        "good.png": good,
        "folder/also good.png": good,
        "../up.png": good,
        "folder/../../up.png": good,
        "..\\up.png": good,
        "/absolute.png": good,
        "C:/drive.png": good,
        "case.png": good,
        "CASE.png": good,
        unicodedata.normalize("NFC", "\u00e9.png"): good,
        unicodedata.normalize("NFD", "\u00e9.png"): good,
        "inner.zip": good,
        "inner.tar.gz": good,
        "readme.txt": b"no image",
    }


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_unsafe_members_are_listed_with_a_reason_and_the_others_read(tmp_path, name):
    write = write_zip if name == "a.zip" else write_tar
    inside = tmp_path / "inside"
    inside.mkdir()
    listing = list_collection(write(inside / name, hostile_members()))
    refs = {ref.path: ref for ref in listing}
    good = {path for path, ref in refs.items() if ref.refused is None}
    assert good == {"good.png", "folder/also good.png"}
    specials = {"link.png", "device.png", "same.png"} | (
        {"hard.png", "pipe.png"} if "tar" in name else set()
    )
    assert refs.keys() == (hostile_members().keys() - {"readme.txt"}) | specials
    with Reader(Limits()) as reader:
        for path, ref in refs.items():
            assert outcome(ref, reader) == (OK if path in good else Reason.UNSAFE_MEMBER)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in inside.iterdir()] == [name]


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_a_member_that_inflates_a_thousandfold_is_refused(tmp_path, name):
    size = 60_000_000
    if name == "bomb.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("bomb.png", bytes(size))
    else:
        with tarfile.open(tmp_path / "plain", "w") as archive:
            info = tarfile.TarInfo("bomb.png")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
        (tmp_path / name).write_bytes(lzma.compress((tmp_path / "plain").read_bytes()))
    (ref,) = list_collection(str(tmp_path / name))
    assert ref.refused is Reason.UNSAFE_MEMBER
    assert "1000" in ref.refused_detail


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_pages_that_lie_back_and_forth_are_not_inflated_once_for_each(tmp_path, name):
    """20,000 pages, in turns at both ends of 15 MB; going back in a stream starts it again."""
    data = bad_images.zigzag_tiff(20_000, 15_000_000)
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.tif", data)
    else:
        with tarfile.open(tmp_path / name, "w:gz", compresslevel=1) as archive:
            info = tarfile.TarInfo("a.tif")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (ref,) = list_collection(str(tmp_path / name))
    with Reader(Limits()) as reader:
        assert reader.header(ref).n_frames == 20_000


def test_a_member_without_a_name_is_refused_and_the_others_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"x")
        archive.writestr("good.png", encoded(photo(), "PNG"))
    data = (tmp_path / "a.zip").read_bytes()
    at = data.index(b"PK\1\2")  # the entry of "a" in the directory loses its name of one byte
    nameless = data[: at + 28] + b"\0\0" + data[at + 30 : at + 46] + data[at + 47 :]
    end = bytearray(nameless)
    size_at = end.rindex(b"PK\5\6") + 12
    struct.pack_into("<I", end, size_at, struct.unpack_from("<I", end, size_at)[0] - 1)
    (tmp_path / "a.zip").write_bytes(end)
    nameless_ref, good = list_collection(str(tmp_path / "a.zip"))
    assert (nameless_ref.path, nameless_ref.refused) == ("", Reason.UNSAFE_MEMBER)
    with Reader(Limits()) as reader:
        assert outcome(good, reader) == OK


def test_an_encrypted_member_is_refused(tmp_path):
    path = Path(write_zip(tmp_path / "a.zip", {"good.png": encoded(photo(), "PNG")}))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1  # general purpose flag: encrypted
    path.write_bytes(data)
    refused = {ref.path: ref.refused_detail for ref in list_collection(str(path))}
    assert refused["good.png"] == "encrypted"


def test_a_member_larger_than_the_limit_is_too_large(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"good.png": encoded(photo(), "PNG")})
    ref = next(iter(list_collection(path)))
    with Reader(Limits(max_file_bytes=100)) as reader:
        assert outcome(ref, reader) is Reason.TOO_LARGE


def test_a_zip_whose_member_lies_about_its_bytes_is_corrupt(tmp_path):
    path = Path(write_zip(tmp_path / "a.zip", {"good.png": encoded(photo(), "PNG")}))
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    refs = {ref.path: ref for ref in list_collection(str(path))}
    with Reader(Limits()) as reader:
        assert outcome(refs["good.png"], reader) in bad_images.DAMAGED


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_of_a_damaged_tar_what_is_readable_is_listed_and_the_damage_told(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (6, 5000), np.uint8)
    files = {f"{index}.png": data.tobytes() for index, data in enumerate(noise)}
    path = Path(write_tar(tmp_path / name, files | {"good.png": b"x"}))
    path.write_bytes(path.read_bytes()[:13_000])
    *members, last = list_collection(str(path))
    assert [ref.path for ref in members][:2] == ["0.png", "1.png"]
    assert last.refused is Reason.CORRUPT
    assert last.path == name
    assert "damaged" in last.refused_detail


def test_a_damaged_header_inside_a_tar_is_no_silent_end(tmp_path):
    path = Path(write_tar(tmp_path / "a.tar", {"good.png": b"x" * 512, "lost.png": b"y" * 512}))
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"\xff" * 76
    path.write_bytes(data)
    first, last = list_collection(str(path))
    assert (first.path, first.refused) == ("good.png", None)
    assert last.refused is Reason.CORRUPT


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.zst"])
@pytest.mark.parametrize("data", [b"", b"PK\3\4 nothing more", b"\x28\xb5\x2f\xfd" + bytes(99)])
def test_what_is_no_archive_is_refused_by_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpecError, match=name):
        list(list_collection(str(tmp_path / name)))


def test_a_tar_header_that_claims_gigabytes_is_not_read(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(SpecError, match="header of"):
        list(list_collection(str(tmp_path / "a.tar")))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [-1, -512, -(1 << 40), 1 << 62])
def test_a_tar_member_of_an_impossible_size_is_told(tmp_path, size):
    good = encoded(photo(), "PNG")
    first, second = tarfile.TarInfo("good.png"), tarfile.TarInfo("odd.png")
    first.size = len(good)
    header = bytearray(second.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (b"\x80" if size > 0 else b"\xff") + size.to_bytes(11, "big", signed=True)
    checksum = sum(header[:148]) + 8 * 32 + sum(header[156:512])
    header[148:156] = b"%06o\0 " % checksum
    padding = bytes(-len(good) % 512)
    data = first.tobuf() + good + padding + bytes(header) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    good_ref, last = list_collection(str(tmp_path / "a.tar"))
    assert (good_ref.path, good_ref.refused) == ("good.png", None)
    assert last.refused in (Reason.CORRUPT, Reason.UNSAFE_MEMBER)
    with Reader(Limits()) as reader:
        assert outcome(good_ref, reader) == OK


def test_a_tar_of_headers_about_headers_is_told(tmp_path):
    record = b"11 a=bcdef\n"
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    header = info.tobuf() + record.ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(header * 3000 + bytes(1024))
    with pytest.raises(SpecError, match=r"a\.tar"):
        list(list_collection(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_odd_member_names_make_the_round_trip(tmp_path, name):
    good = encoded(photo(), "PNG")
    files = {"good.png": good, "new\nline.png": good, "=cmd.png": good, "<img onerror=x>.png": good,
             "100%.png": good, "a!/b.png": good, "x" * 200 + ".png": good}  # fmt: skip
    if name == "a.tar":
        files[os.fsdecode(b"\xff\xfe.png")] = good
    write = write_zip if name == "a.zip" else write_tar
    refs = [ref for ref in list_collection(write(tmp_path / name, files)) if ref.refused is None]
    assert len(refs) == len(files)
    assert len({ref.image_id for ref in refs}) == len(files)
    with Reader(Limits()) as reader:
        assert {outcome(ref, reader) for ref in refs} == {OK}


# Files that are not there, or not for us


@pytest.mark.timeout(10)
@pytest.mark.parametrize("now", ["gone", "fifo", "folder", "link", "shorter"])
def test_a_file_that_changes_after_the_listing_has_a_reason(tmp_path, now):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(), "PNG"))
    (ref,) = list_collection(str(tmp_path))
    data = path.read_bytes()
    path.unlink()
    expected = {
        "gone": Reason.NOT_FOUND, "fifo": Reason.NOT_A_FILE, "folder": Reason.NOT_A_FILE,
        "link": Reason.READ_ERROR, "shorter": Reason.TRUNCATED,
    }[now]  # fmt: skip
    if now == "fifo":
        os.mkfifo(path)
    elif now == "folder":
        path.mkdir()
    elif now == "link":
        path.symlink_to(path)
    elif now == "shorter":
        path.write_bytes(data[:100])
    with Reader(Limits()) as reader:
        assert outcome(ref, reader) is expected
        assert not reader.unchanged(ref)


@pytest.mark.timeout(10)
def test_single_sources_that_are_no_files_have_a_reason(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    for source in (str(tmp_path / "fifo.png"), "/dev/null"):
        (ref,) = list_collection(source)
        assert ref.refused is Reason.NOT_A_FILE
    (tmp_path / "list.txt").symlink_to("/dev/zero")
    with pytest.raises(SpecError, match="device"):
        list(list_collection(str(tmp_path / "list.txt")))


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A folder that anyone may enter, and an effective user who is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


def test_what_may_not_be_read_has_a_reason(nobodys_folder):
    (nobodys_folder / "closed").mkdir()
    for name in ("secret.png", "later.png"):
        (nobodys_folder / name).write_bytes(encoded(photo(), "PNG"))
    (nobodys_folder / "secret.png").chmod(0)
    (nobodys_folder / "closed").chmod(0)
    refs = {ref.path: ref for ref in list_collection(str(nobodys_folder))}
    assert {path: ref.refused for path, ref in refs.items()} == {
        "closed": Reason.NO_PERMISSION,
        "later.png": None,
        "secret.png": Reason.NO_PERMISSION,
    }
    (nobodys_folder / "later.png").chmod(0)
    with Reader(Limits()) as reader:
        assert outcome(refs["later.png"], reader) is Reason.NO_PERMISSION


# Through the pipeline


def test_odd_values_and_shapes_end_as_rows_without_a_warning_or_a_nan(tmp_path):
    """Not finite, all the same, 1e300, one pixel, one column: with a real model."""
    images = tmp_path / "images"
    images.mkdir()
    whole = bad_images.whole_images()
    names = ("some_nan.tif", "all_nan.tif", "constant.tif", "float64.tif", "negative.tif",
             "uint32.tif", "one_pixel.png", "column.png")  # fmt: skip
    for name in names:
        (images / name).write_bytes(whole[name])
    spec = resolve(RunSpec(source="-", store="-", model="classical")).spec
    files = create_store(tmp_path / "store")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        process_chunk(chunk_of(images, spec), build(spec, None, 1), files, "run")
    snapshot = Snapshot(files)
    rows = {row["path"]: row for row in snapshot.image_rows()}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(names, "ok")
    assert (rows["all_nan.tif"]["n_nonfinite"], rows["all_nan.tif"]["n_objects"]) == (16, 0)
    assert rows["one_pixel.png"]["n_objects"] == rows["column.png"]["n_objects"] == 0
    for table in ("images", "objects"):
        assert "nan" not in str(snapshot.dataset(table).to_table().to_pylist()).lower().replace(
            "_nan.tif", ""
        )


def test_odd_file_names_come_back_byte_for_byte_from_the_tables(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    names = {b"line\nbreak.png", b"=cmd|' -C calc'!A0.png", b"<img onerror=alert(1)>.png",
             b"\xff\xfe.png", b"100%.png", b"a!.png", b"x" * 251 + b".png"}  # fmt: skip
    for name in names:
        (images / os.fsdecode(name)).write_bytes(encoded(photo(), "PNG"))
    files = create_store(tmp_path / "store")
    process_chunk(chunk_of(images), ThresholdSegmenter(), files, "run")
    rows = list(Snapshot(files).image_rows())
    assert {unquote_to_bytes(row["path"]) for row in rows} == names
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["image_id"] for row in rows}) == len(names)


# Configurations


def test_a_configuration_in_yaml_is_refused_unread(tmp_path):
    """Nine levels of nine aliases: a parser of YAML would make 400 million of them."""
    levels = ["a0: &a0 lol"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)
    ]
    for name, text in {"bomb.yaml": "\n".join(levels), "run.yml": "model: classical\n"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(SpecError, match=rf"{name}: not a TOML file"):
            load_config(tmp_path / name)
