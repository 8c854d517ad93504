"""Requests per image and per chunk, counted before a server: the table of docs/storage.md.

python docs/storage.py
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import obstore
from PIL import Image

from segpipe.buckets.client import Patience, connect
from segpipe.pipeline import process_chunk
from segpipe.readers import list_collection
from segpipe.records import Chunk
from segpipe.store import create_store
from tests import s3
from tests.generated import SPEC, ThresholdSegmenter

IMAGES = {512: 64, 2048: 8}
"""Side in pixels -> images in the chunk."""


class Counting(s3.Proxy):
    """Counts requests by whether they are for images and by their method."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.count: Counter[str] = Counter()

    def answer(self, request: s3._Handler) -> None:
        listing = "list-type" in request.path
        of = "images" if "/image-" in request.path else "store"
        self.count[f"{of} {'LIST' if listing else request.command}"] += 1
        super().answer(request)


def noise(side: int, kind: str) -> bytes:
    """A grey image that compresses badly."""
    data = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 60, (side, side), np.uint8)
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def main() -> None:
    with s3.s3_server() as server, Counting(server) as proxy, s3.reached_at(proxy.endpoint):
        for side, count in IMAGES.items():
            for kind in ("png", "jpeg", "tiff"):
                source, data = s3.new_address(), noise(side, kind)
                objects = connect(source, Patience())
                for number in range(count):
                    obstore.put(objects, f"image-{number:03d}.{kind}", data)
                chunk = Chunk(SPEC.spec_id, tuple(list_collection(source)))
                files = create_store(s3.new_address())
                proxy.count.clear()
                process_chunk(chunk, ThresholdSegmenter(), files, "run")
                sys.stdout.write(
                    f"{count} x {kind} {side} x {side}, {len(data):,} bytes: {dict(proxy.count)}\n"
                )


if __name__ == "__main__":
    main()
