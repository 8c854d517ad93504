"""Plans: nothing twice, nothing left out, the same chunks whatever happened before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.planning.chunks import Due, cut
from segpipe.planning.shapes import SHARD_BYTES, SHARD_IMAGES, stack_layout
from segpipe.records import Chunk, ImageRef
from tests.generated import SPEC, all_of

NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40)


def listing(names: list[str]) -> list[ImageRef]:
    return [ImageRef(f"file:///{name}", name, len(name), 7) for name in names]


@given(NAMES, st.integers(1, 9), st.data())
def test_every_image_that_is_due_is_in_one_chunk(
    names: list[str], size: int, data: st.DataObject
) -> None:
    images = listing(names)
    due = [Due(position, ref) for position, ref in enumerate(images) if data.draw(st.booleans())]
    chunks = list(cut("spec", size, due, len(images)))
    planned = [ref for chunk in chunks for ref in chunk.images]
    assert sorted(r.uri for r in planned) == sorted(one.ref.uri for one in due)
    assert all(0 < len(chunk.images) <= size for chunk in chunks)


@given(NAMES, st.integers(1, 9), st.data())
def test_a_second_run_finds_the_chunks_that_the_first_did_not_finish(
    names: list[str], size: int, data: st.DataObject
) -> None:
    images = listing(names)
    first = all_of(size, images)
    finished = [chunk for chunk in first if data.draw(st.booleans())]
    done = {ref for chunk in finished for ref in chunk.images}
    due = [Due(position, ref) for position, ref in enumerate(images) if ref not in done]
    again = list(cut(SPEC.spec_id, size, due, len(images)))
    assert again == [chunk for chunk in first if chunk not in finished]


def test_images_that_have_results_make_chunks_of_their_own() -> None:
    (ref,) = listing(["a"])
    ids = {
        chunk.chunk_id for results in range(3) for chunk in cut("s", 4, [Due(0, ref, results)], 1)
    }
    assert len(ids) == 3


def test_ids_without_an_etag_are_those_of_older_stores() -> None:
    ref = ImageRef("file:///a.png", "a.png", 10, 1)
    assert Chunk("spec", (ref,)).chunk_id == "02685fae152dfefe84a96bc50b5ab702"


def test_an_etag_tells_versions_of_one_size_and_time_apart() -> None:
    versions = [
        ImageRef("s3://b/a.png", "a.png", 10, 1, etag=etag) for etag in (None, '"1"', '"2"')
    ]
    assert len({Chunk("spec", (ref,)).chunk_id for ref in versions}) == 3
    assert len({ref.image_id for ref in versions}) == 1


def test_chunk_ids_follow_from_content_and_order() -> None:
    a, b = listing(["a", "b"])
    ids = {
        all_of(4, images, spec)[0].chunk_id
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
