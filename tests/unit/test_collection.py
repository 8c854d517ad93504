"""Listings: what they hold, in which order, and that every name makes the round trip."""

from __future__ import annotations

import csv
import os
import subprocess
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from segpipe.errors import Reason, SpecError
from segpipe.readers import EmptyCollection, list_collection
from segpipe.readers.names import file_uri, member_uri, readable, split_uri
from segpipe.readers.sorting import sorted_names

ODD_NAMES = (
    b"line\nbreak.png", b"=cmd|' -C calc'!A0.png", b"<img onerror=alert(1)>.png", b"\xff\xfe.png",
    b"100%.png", b"%41.png", b"a b.png", "\u202egnp.png".encode(), b"#?&!.png",
    b"x" * 251 + b".png",
)  # fmt: skip


def paths(source: Path | str) -> list[str]:
    return [ref.path for ref in list_collection(str(source))]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_bytes_make_the_round_trip(name):
    assert unquote_to_bytes(readable(name)) == name
    uri = member_uri(file_uri("/a!/b.zip"), name)
    assert uri.isascii()
    assert split_uri(uri) == ("/a!/b.zip", name)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_letters_and_digits_stay_readable(text):
    assert readable(text.encode()) == text or not text.isprintable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(stem=st.binary(min_size=1, max_size=60))
def test_any_file_name_is_listed_and_found_again(tmp_path_factory, stem):
    name = b"a" + stem.replace(b"/", b"_").replace(b"\0", b"_") + b".png"
    folder = tmp_path_factory.mktemp("any")
    (folder / os.fsdecode(name)).write_bytes(b"12345")
    (ref,) = list_collection(str(folder))
    path, member = split_uri(ref.uri)
    assert member is None
    assert path == str(folder / os.fsdecode(name))
    assert unquote_to_bytes(ref.path) == name
    assert (ref.size_bytes, ref.refused) == (5, None)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_listed_and_found_again(tmp_path, name):
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (ref,) = list_collection(str(tmp_path))
    assert Path(split_uri(ref.uri)[0]).read_bytes() == b"x"
    assert "\n" not in ref.path + ref.uri


def test_a_folder_is_listed_depth_first_in_the_order_of_bytes(tmp_path):
    touch(tmp_path, "b.png", "B.png", "a/2.png", "a/10.png", "a.png", "\u00e9.png", "notes.md")
    assert paths(tmp_path) == ["B.png", "a/10.png", "a/2.png", "a.png", "b.png", "\u00e9.png"]


def test_ignored_counts_the_files_whose_extension_is_no_images(tmp_path):
    touch(tmp_path, "a.png", "notes.md", "sub/data.csv", "sub/._a.png")
    listing = list_collection(str(tmp_path))
    for _ in range(2):
        assert [ref.path for ref in listing] == ["a.png"]
        assert listing.ignored == 3


def test_names_without_an_extension_are_no_images(tmp_path):
    touch(tmp_path, ".png", "png", "a.png.", "..png", "b.PnG", "c.tar.png")
    assert paths(tmp_path) == ["..png", "b.PnG", "c.tar.png"]


@pytest.mark.parametrize("given", ["{}/", "{}//", "{}/sub/..", "{}/./"])
def test_a_folder_is_listed_by_whatever_name(tmp_path, given):
    touch(tmp_path, "a.png", "sub/b c.png")
    plain = list(list_collection(str(tmp_path)))
    assert list(list_collection(given.format(tmp_path))) == plain
    assert [ref.uri for ref in plain] == [
        file_uri(str(tmp_path / name)) for name in ("a.png", "sub/b c.png")
    ]


def test_formats_that_are_not_read_are_listed_too(tmp_path):
    touch(tmp_path, "a.svg", "b.EPS", "c.heic", "d.psd", "e.gif")
    assert len(paths(tmp_path)) == 5


def test_a_listing_is_a_stream(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    refs = iter(list_collection(str(tmp_path)))
    assert next(refs).path == "a/1.png"
    touch(tmp_path, "b/2.png")
    assert [ref.path for ref in refs] == ["b/1.png", "b/2.png"]


def test_links_to_folders_neither_loop_nor_repeat(tmp_path):
    touch(tmp_path, "root/a/1.png", "outside/2.png")
    root = tmp_path / "root"
    (root / "a" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "again").symlink_to("a")
    (root / "out1").symlink_to(tmp_path / "outside")
    (root / "out2").symlink_to(tmp_path / "outside")
    assert paths(root) == ["a/1.png", "out1/2.png"]


def test_a_very_deep_folder_is_no_recursion(tmp_path):
    depth = 1100
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("x.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    refs = list(list_collection(str(tmp_path)))
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # shutil.rmtree would recurse
    assert [ref.path for ref in refs] == ["d/" * depth + "x.png"]


def test_what_is_no_readable_file_is_listed_with_its_reason(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    touch(tmp_path, "folder.png/inner.png")
    refused = {ref.path: ref.refused for ref in list_collection(str(tmp_path))}
    assert refused == {
        "fifo.png": Reason.NOT_A_FILE,
        "dangling.png": Reason.NOT_FOUND,
        "loop.png": Reason.READ_ERROR,
        "folder.png/inner.png": None,
    }


def test_identity_changes_with_the_file(tmp_path):
    touch(tmp_path, "a.png")
    (before,) = list_collection(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"longer")
    (after,) = list_collection(str(tmp_path))
    assert before.image_id == after.image_id
    assert before.version != after.version


def test_a_glob_lists_what_it_names(tmp_path):
    touch(tmp_path, "a/1.png", "a/b/2.tif", "a/b/3.txt", "c.png")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    listing = list_collection(f"{tmp_path}/**/*.png")
    assert listing.kind == "glob"
    assert [(ref.path, ref.refused) for ref in listing] == [
        ("a/1.png", None),
        ("a/gone.png", Reason.NOT_FOUND),
        ("c.png", None),
    ]
    assert paths(f"{tmp_path}/a/b/*") == ["2.tif", "3.txt"]


def test_an_existing_name_with_glob_characters_is_a_name(tmp_path):
    touch(tmp_path, "a[1].png", "a1.png")
    listing = list_collection(str(tmp_path / "a[1].png"))
    assert listing.kind == "image"
    assert [ref.path for ref in listing] == ["a[1].png"]


@pytest.mark.parametrize("kind", ["txt", "path.csv", "uri.csv", "file.csv", "only.csv", "parquet"])
def test_a_manifest_lists_what_it_names_in_its_order(tmp_path, kind):
    touch(tmp_path, "sub/b.png", "a.png")
    absolute = str(tmp_path / "sub" / "b.png")
    names = [absolute, "a.png", "missing.png", "a.png"]
    manifest = tmp_path / f"list.{kind}"
    if kind == "txt":
        manifest.write_text("\r\n".join(names) + "\n\n")
    elif kind == "parquet":
        parquet.write_table(pa.table({"path": names, "score": [1, 2, 3, 4]}), manifest)
    else:
        column = kind.removesuffix(".csv")
        extra = [] if column == "only" else ["score"]
        with manifest.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*extra, column])
            rows.writerows([*extra, name] for name in names)
    listing = list_collection(str(manifest))
    assert [(ref.path, ref.refused) for ref in listing] == [
        (absolute, None),
        ("a.png", None),
        ("missing.png", Reason.NOT_FOUND),
    ]
    assert (listing.kind, listing.ignored) == ("manifest", 1)


def test_a_manifest_of_uris_holds_any_name(tmp_path):
    name = os.fsdecode(b"new\nline\xff.png")
    touch(tmp_path, name)
    (tmp_path / "list.txt").write_text(
        file_uri(str(tmp_path / name)) + "\nhttps://u:hunter2@a.org/a.png\n"
    )
    found, remote = list_collection(str(tmp_path / "list.txt"))
    assert found.refused is None
    assert split_uri(found.uri)[0] == str(tmp_path / name)
    assert remote.refused is Reason.NOT_FOUND
    assert "file:///" in remote.refused_detail
    assert "hunter2" not in str(remote)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("two.csv", b"left,right\na,b\n"),
        ("blank.csv", b"path,n\n,1\n"),
        ("bad.parquet", b"PAR1 this is not Parquet PAR1"),
    ],
)
def test_an_unusable_manifest_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=name):
        list(list_collection(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("/no/such/folder", "/no/such/folder"),
        ("https://example.org/a.png", "images are read from"),
        ("https://example.org/a.png?token=hunter2", r"token=\*\*\*: images are read from"),
        ("s3://user:hunter2@bucket/images", r"s3://\*\*\*@bucket/images: .* environment"),
        ("s3://bucket/images?X-Amz-Signature=hunter2", r"=\*\*\*: .* %3F"),
        ("s3:///images", "no address"),
        ("gs://bucket/a//b", "empty part"),
        ("az://container/../b", "empty part"),
        ("nul\0byte.png", "no such"),
    ],
)
def test_a_source_that_cannot_be_listed_is_refused(source, message):
    with pytest.raises(SpecError, match=message):
        list_collection(source)


@pytest.mark.parametrize("files", [(), ("notes.md", "b/data.npy")])
def test_nothing_to_do_is_told(tmp_path, files):
    touch(tmp_path, *files)
    with pytest.raises(EmptyCollection, match="no images in this folder"):
        list(list_collection(str(tmp_path)))
    with pytest.raises(EmptyCollection, match="no images in this glob"):
        list(list_collection(f"{tmp_path}/*.png"))


def test_names_that_differ_only_in_unicode_form_are_two_images(tmp_path):
    names = [unicodedata.normalize(form, "\u00e9.png") for form in ("NFC", "NFD")]
    touch(tmp_path, *names)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes them for one name")
    assert len({ref.image_id for ref in list_collection(str(tmp_path))}) == 2


@given(st.lists(st.binary(min_size=1, max_size=5).filter(lambda name: b"/" not in name)))
def test_names_are_sorted_whether_they_fit_into_memory_or_not(names: list[bytes]) -> None:
    for in_memory in (1, 3, 100):
        assert list(sorted_names(names, in_memory)) == sorted(names)
