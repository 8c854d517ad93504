"""Plans: nothing twice, nothing left out, the same chunks whatever happened before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.planning.chunks import IDENTITY_BYTES, Identities, Planner
from segpipe.planning.shapes import SHARD_BYTES, SHARD_IMAGES, stack_layout
from segpipe.records import Chunk, ImageRef

NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40)


def listing(names: list[str]) -> list[ImageRef]:
    return [ImageRef(f"file:///{name}", name, len(name), 7) for name in names]


@given(NAMES, st.integers(1, 9), st.data())
def test_every_image_is_planned_once_or_done(
    names: list[str], size: int, data: st.DataObject
) -> None:
    images = listing(names)
    done = {r.identity for r in images if data.draw(st.booleans())}
    planner = Planner("spec", size, done)
    chunks = list(planner.chunks(images))
    planned = [ref for chunk in chunks for ref in chunk.images]
    assert sorted(r.uri for r in planned) == sorted(r.uri for r in images if r.identity not in done)
    assert planner.planned == len(planned)
    assert planner.skipped == len(images) - len(planned)
    assert all(0 < len(chunk.images) <= size for chunk in chunks)


@given(NAMES, st.integers(1, 9), st.data())
def test_a_second_run_finds_the_chunks_that_the_first_did_not_finish(
    names: list[str], size: int, data: st.DataObject
) -> None:
    images = listing(names)
    first = list(Planner("spec", size, set()).chunks(images))
    finished = [chunk for chunk in first if data.draw(st.booleans())]
    done = {ref.identity for chunk in finished for ref in chunk.images}
    again = list(Planner("spec", size, done).chunks(images))
    assert again == [chunk for chunk in first if chunk not in finished]


@given(
    st.lists(st.lists(st.binary(min_size=IDENTITY_BYTES, max_size=IDENTITY_BYTES), max_size=5)),
    st.lists(st.binary(min_size=IDENTITY_BYTES, max_size=IDENTITY_BYTES)),
)
def test_identities_are_a_set(batches: list[list[bytes]], others: list[bytes]) -> None:
    known = {identity for batch in batches for identity in batch}
    identities = Identities(batches)
    zeros = bytes(IDENTITY_BYTES)
    for identity in (*known, *others, zeros):
        assert (identity in identities) == (identity in known)


def test_a_changed_file_is_another_image_under_the_same_id() -> None:
    before = ImageRef("file:///a.png", "a.png", 10, 1)
    after = ImageRef("file:///a.png", "a.png", 10, 2)
    assert before.image_id == after.image_id
    assert before.identity != after.identity
    (chunk,) = Planner("spec", 4, {before.identity}).chunks([after])
    assert chunk.images == (after,)


def test_ids_without_an_etag_are_those_of_older_stores() -> None:
    ref = ImageRef("file:///a.png", "a.png", 10, 1)
    assert ref.identity.hex() == "c4152562130420d8910ded033b4db17e"
    assert Chunk("spec", (ref,)).chunk_id == "02685fae152dfefe84a96bc50b5ab702"


def test_an_etag_tells_versions_of_one_size_and_time_apart() -> None:
    versions = [
        ImageRef("s3://b/a.png", "a.png", 10, 1, etag=etag) for etag in (None, '"1"', '"2"')
    ]
    assert len({ref.identity for ref in versions}) == 3
    assert len({Chunk("spec", (ref,)).chunk_id for ref in versions}) == 3
    assert len({ref.image_id for ref in versions}) == 1


def test_chunk_ids_follow_from_content_and_order() -> None:
    a, b = listing(["a", "b"])
    ids = {
        next(Planner(spec, 4, set()).chunks(images)).chunk_id
        for spec in ("one", "two")
        for images in ([a, b], [b, a], [a])
    }
    assert len(ids) == 6


SHAPES = st.lists(
    st.tuples(st.integers(1, 70_000), st.integers(1, 70_000)), min_size=1, max_size=70
)


@given(SHAPES, st.sampled_from([1, 2, 4]))
def test_a_stack_holds_every_image_and_a_shard_fits_its_budget(
    shapes: list[tuple[int, int]], itemsize: int
) -> None:
    layout = stack_layout(shapes, itemsize)
    assert layout.shape[0] == len(shapes)
    assert layout.shape[1:] == tuple(np.max(shapes, axis=0))
    assert layout.chunk[0] == 1
    assert max(layout.chunk[1:]) <= 1024
    assert all(shard % chunk == 0 for shard, chunk in zip(layout.shard, layout.chunk, strict=True))
    assert layout.shard[0] <= SHARD_IMAGES
    assert int(np.prod(layout.shard, dtype=np.int64)) * itemsize <= SHARD_BYTES


def test_small_images_share_a_shard() -> None:
    assert stack_layout([(512, 512)] * 64, 2).shard == (32, 512, 512)
