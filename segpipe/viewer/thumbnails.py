"""Small pictures of images with what was found in them, drawn when they are first looked at."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from segpipe.errors import InputError, Reason, SegpipeError
from segpipe.readers import Reader
from segpipe.report.display import display
from segpipe.report.overlay import outlined
from segpipe.report.picture import overview
from segpipe.report.source import Source, open_source
from segpipe.spec import Limits
from segpipe.store import Snapshot
from segpipe.store.snapshot import Row

SIDE = 320
"""Pixels of the longer side."""

CACHE_BYTES = 64 << 20

_AT_ONCE = 2
"""Images that are decoded at a time, each in a process of its own: bounds time and memory."""

_LIMITS = Limits(max_pixels=1 << 28, decode_seconds=15.0)
"""An image that takes more has no thumbnail; those that were looked at in parts are large."""

_UNTOUCHED = (Reason.WORKER_DIED, Reason.TIME_LIMIT)


class Thumbnails:
    """Draws, and keeps the last `CACHE_BYTES` of what it drew; safe to use from threads."""

    def __init__(self) -> None:
        self._readers = [Reader(_LIMITS, isolated=True) for _ in range(_AT_ONCE)]
        self._all = tuple(self._readers)
        self._free = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str, str, bool], bytes] = OrderedDict()
        self._bytes = 0

    def draw(self, snapshot: Snapshot, row: Row, plain: bool = False) -> bytes:
        """WebP of one image row, at most about `SIDE` pixels wide and high.

        Args:
            plain: without what was found.

        Raises:
            InputError: the image is gone, has changed, or cannot be read; the sentence says which.
        """
        key = row["chunk_id"], row["run_id"], row["image_id"], plain
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        picture = self._encoded(snapshot, row, plain)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = picture
                self._bytes += len(picture)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._cache.popitem(last=False)[1])
        return picture

    def _encoded(self, snapshot: Snapshot, row: Row, plain: bool) -> bytes:
        if row["reason"] in _UNTOUCHED:
            raise InputError(Reason(row["reason"]), f"not read again: {row['detail']}")
        with self._free:
            with self._lock:
                reader = self._readers.pop()
            try:
                with open_source(row, reader) as source:
                    picture = _drawn(snapshot, row, source, plain)
            except (SegpipeError, OSError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(Reason.READ_ERROR, str(error)) from error
            finally:
                with self._lock:
                    self._readers.append(reader)
        picture.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=80, method=2)
        return buffer.getvalue()

    def close(self) -> None:
        for reader in self._all:
            reader.close()


def _drawn(snapshot: Snapshot, row: Row, source: Source, plain: bool) -> Image.Image:
    if row["status"] != "ok":
        return Image.fromarray(display(source.read(source.whole)))
    seen = overview(snapshot, row, source, 4 * SIDE)
    if plain:
        return Image.fromarray(display(seen.pixels))
    return Image.fromarray(outlined(seen.pixels, seen.labels, seen.objects, seen.semantic, SIDE))
