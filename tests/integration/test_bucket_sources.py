"""Images in a bucket: listed, read in the version that was listed, and done once."""

from __future__ import annotations

import csv
import functools
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segpipe.buckets import file as bucket_file
from segpipe.buckets.bucket import PAGE, Bucket
from segpipe.buckets.client import Patience, connect
from segpipe.errors import InputError, Reason, SpecError, StoreError, TransientStoreError
from segpipe.pipeline import Care, process_chunk
from segpipe.planner import write_plans
from segpipe.readers import EmptyCollection, Reader, list_collection
from segpipe.readers.names import object_uri, split_object_uri
from segpipe.readers.places import Places
from segpipe.records import Chunk, ImageRef
from segpipe.report.picture import draw_image
from segpipe.spec import Limits, RunSpec
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.fsck import check_store
from segpipe.store.plans import read_plan
from tests.generated import SPEC, ThresholdSegmenter, blobs
from tests.integration.conftest import Command
from tests.region_files import ome_tiff
from tests.s3 import (
    BUCKET,
    FOR_GOOD,
    SECRET,
    Fault,
    FaultKind,
    Proxy,
    fill,
    new_address,
    reached_at,
)

BRIEF = Patience(times=1, first=0.001, longest=0.001)


class Prefix:
    """A place in the bucket where nothing is yet, filled by another client than segpipe's."""

    def __init__(self, endpoint: str) -> None:
        self.address = new_address()
        self.prefix = self.address.split("/", 3)[3]
        self._client = _client(endpoint)

    def put(self, key: str, data: bytes = b"") -> str:
        """The object's address."""
        self._client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", Body=data)
        return f"{self.address}/{key}"

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")


@functools.cache
def _client(endpoint: str):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=SECRET,
    )


@pytest.fixture
def prefix(s3: str) -> Prefix:
    return Prefix(s3)


def png(seed: int, shape: tuple[int, int] = (48, 64)) -> bytes:
    data = io.BytesIO()
    Image.fromarray(blobs(seed, shape)).save(data, "png")
    return data.getvalue()


def paths(source: str) -> list[str]:
    return [ref.path for ref in list_collection(source)]


# Listing


def test_a_prefix_lists_its_images_in_the_order_of_their_keys(prefix: Prefix) -> None:
    for key in ("b/2.png", "b/1.TIF", "b-c.png", "a.jpg", "notes.md", "b/._x.png", "ä.png"):
        prefix.put(key, b"data")
    listing = list_collection(f"{prefix.address}/")
    refs = list(listing)
    assert [ref.path for ref in refs] == ["a.jpg", "b-c.png", "b/1.TIF", "b/2.png", "ä.png"]
    assert (listing.kind, listing.ignored) == ("prefix", 2)
    assert {ref.size_bytes for ref in refs} == {4}
    assert all(ref.etag and '"' not in ref.etag and ref.refused is None for ref in refs)
    assert list(list_collection(prefix.address)) == refs
    assert paths(f"{prefix.address}/b/") == ["1.TIF", "2.png"]


def test_folders_of_a_console_are_left_alone(prefix: Prefix) -> None:
    for key in ("", "sub/", "odd.png/", "empty.png", "sub/a.png"):
        prefix.put(key)
    assert paths(prefix.address) == ["empty.png", "sub/a.png"]


def test_an_ome_zarr_is_one_image_that_is_refused_and_no_silence(prefix: Prefix) -> None:
    for key in (
        "a.ome.zarr/zarr.json",
        "a.ome.zarr/0/c/0/0",
        "a.ome.zarr-x.png",
        "b/c.ome.zarr/.zattrs",
    ):
        prefix.put(key, b"data")
    listing = list_collection(prefix.address)
    refs = list(listing)
    assert [ref.path for ref in refs] == ["a.ome.zarr-x.png", "a.ome.zarr", "b/c.ome.zarr"]
    assert [ref.refused for ref in refs] == [None, *[Reason.UNSUPPORTED_FORMAT] * 2]
    assert refs[1].uri == f"{prefix.address}/a.ome.zarr"
    assert listing.ignored == 0
    (ref,) = list_collection(f"{prefix.address}/b/c.ome.zarr")
    assert ref.uri == refs[2].uri


def test_planes_of_an_object_are_images(prefix: Prefix, tmp_path: Path) -> None:
    data = ome_tiff(tmp_path / "a.ome.tif")
    address = prefix.put("a.ome.tif", (tmp_path / "a.ome.tif").read_bytes())
    named = ["a.ome.tif#z=1,c=2", f"{address}#c=2,z=1", f"{address}#t=1,c=0,1,2", "gone.tif#z=1"]
    prefix.put("planes.txt", "\n".join(named).encode())
    *refs, gone = list_collection(f"{prefix.address}/planes.txt")
    assert [ref.uri for ref in refs] == [f"{address}#z=1,t=0,c=2", f"{address}#z=0,t=1,c=0,1,2"]
    assert gone.refused is Reason.NOT_FOUND
    for isolated in (False, True):
        with Reader(Limits(), isolated=isolated) as reader:
            one, three = (reader.read(ref) for ref in refs)
            np.testing.assert_array_equal(one.pixels[..., 0], data[0, 2, 1])
            np.testing.assert_array_equal(three.pixels, np.moveaxis(data[1, :3, 0], 0, -1))
            assert one.sha256 == reader.sha256(refs[0]) != three.sha256
            assert reader.changed(refs) == set()


def test_a_listing_is_a_stream_of_pages(prefix: Prefix, s3: str) -> None:
    count = 2 * PAGE + 1
    fill(s3, prefix.address, count)
    with Proxy(s3) as proxy, reached_at(proxy.endpoint):
        proxy.plan(Fault("503", at=FOR_GOOD, conditional=False))
        objects = Bucket("s3://bucket").below(prefix.prefix)
        next(objects)
        assert proxy.seen == 1
        assert sum(1 for _ in objects) == count - 1
        assert proxy.seen == 3


KEYS = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\ufffe\uffff"),
        min_size=1,
        max_size=12,
    ).filter(lambda part: part.strip(".")),
    min_size=1,
    max_size=3,
).map(lambda parts: "/".join(parts) + ".png")


@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sets(KEYS, min_size=1, max_size=4))
def test_any_key_makes_the_round_trip(s3: str, keys: set[str]) -> None:
    prefix = Prefix(s3)
    for key in keys:
        prefix.put(key, key.encode())
    refs = list(list_collection(prefix.address))
    found = [split_object_uri(ref.uri)[1].removeprefix(f"{prefix.prefix}/") for ref in refs]
    assert found == sorted(keys)
    places = Places()
    for ref, key in zip(refs, found, strict=True):
        assert all(char.isascii() and char.isprintable() for char in ref.uri)
        assert ref.path.isprintable()
        file, size = places.open(ref.uri, ref.size_bytes, ref.etag)
        with file:
            assert file.read(size) == key.encode()
        assert places.ref(ref.uri, ref.path) == ref


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_uri_names_its_key(key: str) -> None:
    assert split_object_uri(object_uri("s3://bucket", key)) == ("s3://bucket", key)


@pytest.mark.parametrize("bad", ["m//double.png", "m/../up.png", "m/./x.png", "m/tab\t.png", "m//"])
def test_a_key_that_cannot_be_expressed_costs_its_level_alone(prefix: Prefix, bad: str) -> None:
    for key in ("a.png", "l/x.png", bad, "m/fine.png", "n/deep/y.png", "z.png"):
        prefix.put(key, b"data")
    refused = {ref.path: ref.refused for ref in list_collection(prefix.address)}
    assert refused == {
        "a.png": None,
        "l/x.png": None,
        "m": Reason.READ_ERROR,
        "n/deep/y.png": None,
        "z.png": None,
    }


def test_nothing_to_do_is_told(prefix: Prefix) -> None:
    prefix.put("notes.md")
    with pytest.raises(EmptyCollection, match=r"no images in this prefix \(1 other files"):
        list(list_collection(prefix.address))
    with pytest.raises(EmptyCollection, match="absent: no images in this prefix"):
        list(list_collection(f"{prefix.address}/absent"))


def test_a_bucket_that_is_not_there_is_told(s3: str) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere.*NoSuchBucket"):
        list(list_collection("s3://nowhere/images/"))


# Single objects, manifests, archives


def test_a_single_object_is_a_collection(prefix: Prefix) -> None:
    address = prefix.put("a b%20.dat", b"data")
    prefix.put("a b%20.dat/inner.png")
    listing = list_collection(address.replace("%", "%25"))
    (ref,) = listing
    assert (listing.kind, ref.path, ref.size_bytes) == ("image", "a b%2520.dat", 4)


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_a_manifest_names_objects_and_files(
    prefix: Prefix, tmp_path: Path, kind: str, place: str
) -> None:
    for key in ("lists/near.png", "far.png"):
        prefix.put(key, key.encode())
    (tmp_path / "near.png").write_bytes(b"local")
    local = str(tmp_path / "local.png")
    Path(local).write_bytes(b"local too")
    names = [
        "near.png", local, f"{prefix.address}/far.png", f"{prefix.address}/gone.png",
        f"{prefix.address}/far.png",
    ]  # fmt: skip
    data = io.BytesIO()
    if kind == "parquet":
        pq.write_table(pa.table({"path": names}), data)
    elif kind == "csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["score", "uri"], *(["1", name] for name in names)])
        data.write(text.getvalue().encode())
    else:
        data.write("\n".join(names).encode())
    if place == "bucket":
        source = prefix.put(f"lists/all.{kind}", data.getvalue())
    else:
        source = str(tmp_path / f"all.{kind}")
        Path(source).write_bytes(data.getvalue())
    listing = list_collection(source)
    found = [(ref.path, ref.refused, ref.size_bytes) for ref in listing]
    assert found == [
        ("near.png", None, 14 if place == "bucket" else 5),
        (local, None, 9),
        (f"{prefix.address}/far.png", None, 7),
        (f"{prefix.address}/gone.png", Reason.NOT_FOUND, 0),
    ]
    assert (listing.kind, listing.ignored) == ("manifest", 1)


def test_an_object_is_the_same_image_however_it_is_named(prefix: Prefix) -> None:
    address = prefix.put("a.png", png(1))
    manifest = prefix.put("all.txt", address.encode())
    (listed,), (named,), (single,) = map(list_collection, (prefix.address + "/", manifest, address))
    assert listed.version == named.version == single.version


@pytest.mark.parametrize("uri", ["s3://bucket/a?X-Amz-Signature=hunter2", "gs://u:hunter2@b/a.png"])
def test_a_manifest_with_secrets_is_listed_without_them(tmp_path: Path, uri: str) -> None:
    (tmp_path / "all.txt").write_text(uri)
    (ref,) = list_collection(str(tmp_path / "all.txt"))
    assert ref.refused is Reason.NOT_FOUND
    assert "hunter2" not in str(ref)


def archive(kind: str, members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
    else:
        with tarfile.open(fileobj=data, mode=f"w:{kind.removeprefix('tar').lstrip('.')}") as file:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_in_a_bucket_is_read_as_one_in_a_folder(
    prefix: Prefix, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_file, "FIRST", 512)
    monkeypatch.setattr(bucket_file, "LONGEST", 4096)
    members = {f"{i}.png": png(i) for i in range(5)} | {"../up.png": b"", "readme.md": b""}
    data = archive(kind, members)
    (tmp_path / f"all.{kind}").write_bytes(data)
    there = list(list_collection(prefix.put(f"all.{kind}", data)))
    here = list(list_collection(str(tmp_path / f"all.{kind}")))
    assert [(r.path, r.size_bytes, r.refused) for r in there] == [
        (r.path, r.size_bytes, r.refused) for r in here
    ]
    with Reader(Limits()) as reader:
        for one, other in zip(there, here, strict=True):
            if one.refused is None:
                assert reader.header(one) == reader.header(other)
                assert reader.read(one).sha256 == reader.read(other).sha256
        assert all(map(reader.unchanged, there))
        prefix.put(f"all.{kind}", archive(kind, members | {"new.png": png(9)}))
        assert not reader.unchanged(there[0]) or there[0].refused
        assert not reader.unchanged(there[-1]) or there[-1].refused


def test_a_damaged_archive_is_refused(prefix: Prefix) -> None:
    with pytest.raises(SpecError, match=r"bad\.zip: not a readable zip"):
        list_collection(prefix.put("bad.zip", b"PK\3\4 and no more"))


# Reading


def test_a_header_takes_a_range_and_an_image_one_request(prefix: Prefix, s3: str) -> None:
    data = io.BytesIO()
    Image.effect_noise((700, 700), 90).save(data, "bmp")
    prefix.put("a.bmp", data.getvalue())
    (ref,) = list_collection(prefix.address)
    assert ref.size_bytes > bucket_file.FIRST
    fetched: list[int] = []
    with Reader(Limits(), places=_counted(fetched)) as reader:
        assert reader.header(ref).shape == (700, 700)
        assert fetched == [bucket_file.FIRST]
        assert reader.read(ref).pixels.shape == (700, 700, 1)
        assert fetched == [bucket_file.FIRST, ref.size_bytes]


def _counted(fetched: list[int]) -> Places:
    class Counted(Bucket):
        def fetch(self, key: str, start: int, length: int, etag: str | None) -> memoryview:
            data = super().fetch(key, start, length, etag)
            fetched.append(len(data))
            return data

    places = Places()
    places._buckets["s3://bucket"] = Counted("s3://bucket")
    return places


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 400)), max_size=20))
def test_a_file_of_ranges_reads_as_a_file(reads: list[tuple[int, int]]) -> None:
    data = bytes(range(251)) * 4
    longest = 0

    class Memory(Bucket):
        def __init__(self) -> None: ...

        def fetch(self, key: str, start: int, length: int, etag: str | None) -> memoryview:
            nonlocal longest
            longest = max(longest, length)
            return memoryview(data)[start : start + length]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_file, "FIRST", 16)
        patch.setattr(bucket_file, "LONGEST", 64)
        file = io.BufferedReader(bucket_file.ObjectFile(Memory(), "", len(data), None), 32)
        for place, length in reads:
            file.seek(place)
            assert file.read(length) == data[place : place + length]
            assert file.tell() == min(place + length, max(place, len(data)))
    assert longest <= 64


def test_a_large_object_is_refused_unread(prefix: Prefix) -> None:
    prefix.put("a.png", png(1))
    (ref,) = list_collection(prefix.address)
    fetched: list[int] = []
    with Reader(Limits(max_file_bytes=100), places=_counted(fetched)) as reader:
        for read in (reader.header, reader.read):
            with pytest.raises(InputError, match="max_file_bytes"):
                read(ref)
    assert fetched == []


def test_an_object_that_changed_is_not_read(prefix: Prefix) -> None:
    prefix.put("a.png", png(1))
    prefix.put("gone.png", png(2))
    changed, gone = list_collection(prefix.address)
    prefix.put("a.png", png(3))
    prefix.remove("gone.png")
    with Reader(Limits()) as reader:
        for read in (reader.header, reader.read):
            with pytest.raises(InputError, match=r"read_error: .*overwritten"):
                read(changed)
            with pytest.raises(InputError, match=r"not_found: .*404"):
                read(gone)
        assert not reader.unchanged(changed)
        assert not reader.unchanged(gone)
        (new,) = list_collection(prefix.address)
        assert reader.unchanged(new)


STATUS = {"403": Reason.NO_PERMISSION, "500": Reason.READ_ERROR, "400": None, "503": None}


@pytest.mark.parametrize("status", STATUS)
def test_what_the_storage_says_of_one_object_is_about_that(
    prefix: Prefix, s3: str, status: FaultKind
) -> None:
    """403 and a 500 while the storage answers otherwise are; no valid credentials, and 503, not."""
    prefix.put("a.png", png(1))
    (ref,) = list_collection(prefix.address)
    with Proxy(s3) as proxy, reached_at(proxy.endpoint):
        proxy.plan(Fault(status, at=0, times=FOR_GOOD, conditional=False))
        reader = Reader(Limits(), places=Places(BRIEF))
        with reader, pytest.raises((InputError, StoreError)) as refused:
            reader.read(ref)
    assert getattr(refused.value, "reason", None) is STATUS[status]
    assert SECRET not in str(refused.value)


# The whole path


@pytest.fixture
def images(prefix: Prefix) -> Prefix:
    for index in range(6):
        prefix.put(f"{index}.png", png(index) if index != 3 else b"\x89PNG\r\n\x1a\nbroken")
    return prefix


def segment(source: str, store: str, care: Care | None = None) -> Snapshot:
    return process(list(list_collection(source)), store, care)


def process(refs: list[ImageRef], store: str, care: Care | None) -> Snapshot:
    files = create_store(store)
    process_chunk(Chunk(SPEC.spec_id, tuple(refs)), ThresholdSegmenter(), files, "run", care)
    return open_store(store)


@pytest.mark.parametrize("care", [None, Care(careful=True)], ids=["quick", "careful"])
def test_a_chunk_of_objects_becomes_results(
    images: Prefix, tmp_path: Path, care: Care | None
) -> None:
    local = tmp_path / "images"
    local.mkdir()
    for index in (0, 1, 2, 4, 5):
        (local / f"{index}.png").write_bytes(png(index))
    there = segment(images.address, new_address(), care)
    here = segment(str(local), str(tmp_path / "store"))
    rows = {row["path"]: row for row in there.image_rows()}
    assert rows["3.png"]["reason"] == "truncated"
    assert all(row["etag"] and not row["input_changed"] for row in rows.values())
    for row in here.image_rows():
        same = rows[row["path"]]
        assert (same["sha256"], same["n_objects"]) == (row["sha256"], row["n_objects"])
        assert row["etag"] is None
        assert (there.label_image(same) == here.label_image(row)).all()
    assert draw_image(there, rows["0.png"]["uri"]).picture.width > 0
    images.put("0.png", png(9))
    with pytest.raises(InputError, match="overwritten"):
        draw_image(there, "0.png")


def test_what_changes_meanwhile_is_told(images: Prefix, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    chunk = Chunk(SPEC.spec_id, tuple(list_collection(images.address)))
    images.put("1.png", png(8))
    process_chunk(chunk, ThresholdSegmenter(), files, "run")
    rows = {row["path"]: row for row in open_store(tmp_path / "store").image_rows()}
    assert [path for path, row in rows.items() if row["input_changed"]] == ["1.png"]
    assert (rows["1.png"]["reason"], rows["2.png"]["status"]) == ("read_error", "ok")


def test_images_are_done_once(prefix: Prefix, tmp_path: Path) -> None:
    """What was overwritten is done again, also within the second and in the same size."""
    files = create_store(tmp_path)
    spec = RunSpec(source=prefix.address, store=str(tmp_path))
    for number in range(5):
        prefix.put(f"{number}.bmp", bitmap(number))

    def night(run_id: str) -> tuple[int, int]:
        (plan,) = write_plans(files, spec, SPEC.spec_id, run_id)
        for chunk in read_plan(files, run_id, SPEC.spec_id):
            process_chunk(chunk, ThresholdSegmenter(), files, run_id)
        return plan.images, plan.skipped

    assert night("1") == (5, 0)
    (before,) = (ref for ref in list_collection(prefix.address) if ref.path == "3.bmp")
    prefix.put("3.bmp", bitmap(30))
    (after,) = (ref for ref in list_collection(prefix.address) if ref.path == "3.bmp")
    assert before.size_bytes == after.size_bytes
    assert night("2") == (1, 4)
    prefix.remove("4.bmp")
    assert night("3") == (0, 4)
    assert list(check_store(files)) == []
    missing = pq.read_table(tmp_path / "runs" / "3" / "missing.parquet")
    assert missing["path"].to_pylist() == ["4.bmp"]


def bitmap(seed: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(blobs(seed)).save(data, "bmp")
    return data.getvalue()


@pytest.fixture
def outage(images: Prefix, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that `s3://` leads through, with little patience before it."""
    monkeypatch.setattr("segpipe.buckets.bucket.Patience", lambda: BRIEF)
    with Proxy(s3) as proxy, reached_at(proxy.endpoint):
        yield proxy


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_an_outage_is_no_images_fault(
    outage: Proxy, images: Prefix, tmp_path: Path, kind: str
) -> None:
    files = create_store(tmp_path / "store")
    chunk = Chunk(SPEC.spec_id, tuple(list_collection(images.address)))
    outage.plan(Fault(kind, at=2, times=FOR_GOOD, conditional=False))
    with pytest.raises(TransientStoreError, match="s3://bucket/"):
        process_chunk(chunk, ThresholdSegmenter(), files, "run")
    assert list(files.names("commits")) == []
    outage.plan(None)
    commit = process_chunk(chunk, ThresholdSegmenter(), files, "run")
    assert dict(commit.failures) == {"truncated": 1}


def test_a_short_trouble_is_waited_out(outage: Proxy, images: Prefix, tmp_path: Path) -> None:
    files = create_store(tmp_path / "store")
    chunk = Chunk(SPEC.spec_id, tuple(list_collection(images.address)))
    for at in range(3):
        outage.plan(Fault("reset", at=at, conditional=False))
        process_chunk(chunk, ThresholdSegmenter(), files, f"run-{at}")
        assert outage.happened == 1
        files.remove("commits")
        files.remove("images")
    for source in (f"{images.address}/", f"{images.address}/0.png"):
        outage.plan(Fault("503", at=0, times=FOR_GOOD, conditional=False))
        with pytest.raises(TransientStoreError):
            list(list_collection(source))


# Other services


@pytest.mark.parametrize(
    ("service", "bucket"), [("google", "gs://bucket"), ("azure", "az://container")]
)
def test_images_and_store_elsewhere(
    request: pytest.FixtureRequest, service: str, bucket: str, segpipe: Command
) -> None:
    """Listing, etags, conditional reads, careful mode and a store; see the fixtures for servers."""
    request.getfixturevalue(service)
    source = new_address(bucket)
    objects = connect(source, BRIEF)
    for key in ("sub/1.png", "0.png", "notes.md", "a%20b \u00e4!.png"):
        obstore.put(objects, key, png(len(key)))
    listing = list_collection(source)
    refs = list(listing)
    assert [ref.path for ref in refs] == ["0.png", "a%2520b \u00e4!.png", "sub/1.png"]
    assert all(ref.etag and '"' not in ref.etag for ref in refs)
    places = Places()
    assert [places.ref(ref.uri, ref.path) for ref in refs] == refs
    store = new_address(bucket)
    snapshot = process(refs, store, Care(careful=True))
    assert [(row["status"], row["input_changed"]) for row in snapshot.image_rows()] == [
        ("ok", False)
    ] * 3
    assert segpipe("fsck", store)[:2] == (0, "all is well\n")
    obstore.put(objects, "0.png", png(99))
    obstore.delete(objects, "sub/1.png")
    with Reader(Limits()) as reader:
        assert [reader.unchanged(ref) for ref in refs] == [False, True, False]
        with pytest.raises(InputError, match="overwritten"):
            reader.read(refs[0])
        with pytest.raises(InputError, match=r"removed|404"):
            reader.read(refs[2])
    with pytest.raises(StoreError, match=r"NoSuchBucket|ContainerNotFound"):
        list(list_collection(bucket[:5] + "nowhere/images/"))
