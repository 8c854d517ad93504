"""A stream of images becomes a stream of chunks; what is already done is left out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from segpipe.records import Chunk, ImageRef

IDENTITY_BYTES = 16


class Identities:
    """Identities of images, in 16 bytes each where a set of Python's takes 120."""

    def __init__(self, batches: Iterable[Iterable[bytes]]) -> None:
        joined = bytearray()
        for batch in batches:
            joined += b"".join(batch)
        self._sorted = np.frombuffer(joined, f"S{IDENTITY_BYTES}")
        self._sorted.sort()

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, identity: object) -> bool:
        wanted = np.array([identity], self._sorted.dtype)
        index = int(self._sorted.searchsorted(wanted)[0])
        return index < len(self) and bool(self._sorted[index] == wanted[0])


class Planner:
    """Cuts a collection into chunks, holding two chunks at most in memory.

    The whole listing is cut first and what is done is taken out afterwards, so that a run that
    was killed, or two runs at once, arrive at the same chunks, and the commit of one is the
    commit of the other. The images left over in partly done chunks are pooled into new ones.

    To try failed images again, say which, and how often they were tried: only they are planned,
    in chunks of a later generation, which again are the same for any two who plan at once.

    Attributes:
        planned: images in the chunks given out so far.
        skipped: images found done so far.
    """

    def __init__(
        self,
        spec_id: str,
        chunk_images: int,
        done: Container[bytes],
        tried: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            done: identities of finished images, which are left out.
            tried: image id -> number of results so far, of the images to try again; `done` does
                not count then.
        """
        self._spec_id = spec_id
        self._chunk_images = chunk_images
        self._done = done
        self._tried = tried
        self.planned = 0
        self.skipped = 0

    def chunks(self, listing: Iterable[ImageRef]) -> Iterator[Chunk]:
        """The chunks of a listing, in its order."""
        listing = iter(listing)
        leftovers: list[ImageRef] = []
        while group := tuple(islice(listing, self._chunk_images)):
            todo = [ref for ref in group if self._is_due(ref)]
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
        tried = self._tried or {}
        generation = max(tried.get(ref.image_id, 0) for ref in images)
        return Chunk(self._spec_id, tuple(images), generation)

    def _is_due(self, ref: ImageRef) -> bool:
        if self._tried is not None:
            return ref.image_id in self._tried
        return ref.identity not in self._done
