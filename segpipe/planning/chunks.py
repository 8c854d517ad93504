"""A stream of images that are due becomes a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from segpipe.records import Chunk, ImageRef


@dataclass(frozen=True, slots=True)
class Due:
    """An image that has to be done.

    Attributes:
        position: in the listing, from 0, where images that are done count too.
        results: that it has already under the spec: it failed, or it has changed since.
    """

    position: int
    ref: ImageRef
    results: int = 0


def cut(spec_id: str, chunk_images: int, due: Iterable[Due], listed: int) -> Iterator[Chunk]:
    """Cut a listing into chunks, of which memory holds two.

    The whole listing is cut, and what is done is taken out of its pieces, so that a run that was
    killed, or two runs at once, arrive at the same chunks, and the commit of one is the commit of
    the other. What is left of pieces that are partly done is pooled into new chunks.

    Args:
        due: in the order of the listing.
        listed: images in the whole listing.
    """
    leftovers: list[Due] = []
    for piece, members in groupby(due, key=lambda one: one.position // chunk_images):
        todo = list(members)
        if len(todo) == min(chunk_images, listed - piece * chunk_images):
            yield _chunk(spec_id, todo)
        else:
            leftovers += todo
        if len(leftovers) >= chunk_images:
            yield _chunk(spec_id, leftovers[:chunk_images])
            leftovers = leftovers[chunk_images:]
    if leftovers:
        yield _chunk(spec_id, leftovers)


def _chunk(spec_id: str, due: list[Due]) -> Chunk:
    """Images that have results make a chunk of a later generation, with a commit of its own."""
    images = tuple(one.ref for one in due)
    return Chunk(spec_id, images, generation=max(one.results for one in due))
