"""A stream of images becomes a stream of chunks; what is already done is left out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import islice

from segpipe.records import Chunk, ImageRef


class Planner:
    """Cuts a collection into chunks, holding two chunks at most in memory.

    The whole listing is cut first and what is done is taken out afterwards, so that a run that
    was killed, or two runs at once, arrive at the same chunks, and the commit of one is the
    commit of the other. The images left over in partly done chunks are pooled into new ones.

    Attributes:
        planned: images in the chunks given out so far.
        skipped: images found done so far.
    """

    def __init__(self, spec_id: str, chunk_images: int, done: Container[bytes]) -> None:
        self._spec_id = spec_id
        self._chunk_images = chunk_images
        self._done = done
        self.planned = 0
        self.skipped = 0

    def chunks(self, listing: Iterable[ImageRef]) -> Iterator[Chunk]:
        """The chunks of a listing, in its order; `done` holds the identities of finished images."""
        listing = iter(listing)
        leftovers: list[ImageRef] = []
        while group := tuple(islice(listing, self._chunk_images)):
            todo = [ref for ref in group if ref.identity not in self._done]
            self.skipped += len(group) - len(todo)
            if len(todo) == len(group):
                yield self._chunk(todo)
            else:
                leftovers += todo
            if len(leftovers) >= self._chunk_images:
                yield self._chunk(leftovers[: self._chunk_images])
                leftovers = leftovers[self._chunk_images :]
        if leftovers:
            yield self._chunk(leftovers)

    def _chunk(self, images: list[ImageRef]) -> Chunk:
        self.planned += len(images)
        return Chunk(self._spec_id, tuple(images))
