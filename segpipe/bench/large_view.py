"""How fluid an image of hundreds of megapixels is in the viewer: tiles, and what they take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import tifffile

from segpipe.demo_fields import Scene, simulate_field
from segpipe.pipeline import process_chunk
from segpipe.readers.collection import list_collection
from segpipe.records import Chunk, DecodedImage, Header, Segmentation
from segpipe.segmenters.base import Footprint
from segpipe.spec import ClassicalOptions, Limits, ModelSpec, SegmentSpec
from segpipe.store import create_store, open_store
from segpipe.viewer.pyramid import TILE, levels
from segpipe.viewer.tiles import Kind, Tiles
from segpipe.viewer.viewer import Viewer

FIELD = 512
KINDS: tuple[Kind, ...] = ("pixels", "masks", "outlines")


class _Mosaic:
    """Answers with the labels of the field that an image repeats."""

    def __init__(self, labels: npt.NDArray[np.unsignedinteger[Any]], side: int) -> None:
        self.spec = SegmentSpec(
            model=ModelSpec(name="mosaic", kind="classical", classes=("background", "nucleus")),
            options=ClassicalOptions(),
            limits=Limits(max_pixels=side * side, decode_seconds=600),
        )
        self._labels = labels

    def footprint(self, header: Header) -> Footprint:
        return Footprint(0, 0, 0, finish=8 * header.height * header.width)

    def prepare(self, image: DecodedImage) -> tuple[int, int]:
        return image.header.shape

    def forward(self, batch: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        return batch

    def finish(self, raw: tuple[int, int], image: DecodedImage) -> Segmentation:
        del image
        count = int(self._labels.max())
        down, across = (-(-size // FIELD) for size in raw)
        labels = np.zeros((down * FIELD, across * FIELD), np.uint32)
        for place in range(down * across):
            y, x = FIELD * (place // across), FIELD * (place % across)
            shifted = np.where(self._labels > 0, self._labels + np.uint32(place * count), 0)
            labels[y : y + FIELD, x : x + FIELD] = shifted
        shown = labels[: raw[0], : raw[1]]
        kept = np.unique(shown)[1:]
        renumbered = np.zeros(int(labels.max()) + 1, np.uint32)
        renumbered[kept] = np.arange(1, len(kept) + 1)
        scores = np.full(len(kept), 0.9, np.float32)
        return Segmentation(renumbered[shown], scores, np.ones(len(kept), np.int32))


def make_large(folder: Path, side: int) -> int:
    """A store in `folder/store` with one tiled TIFF of `side` x `side`; returns its objects."""
    field, labels = simulate_field(np.random.default_rng(0), (FIELD, FIELD), 40, Scene())
    repeats = -(-side // FIELD)
    images = folder / "images"
    images.mkdir(parents=True)
    row = np.tile(field, (1, repeats))[:, :side]
    tiles = (
        np.pad(part, ((0, FIELD - part.shape[0]), (0, FIELD - part.shape[1])))
        for y in range(0, side, FIELD)
        for x in range(0, side, FIELD)
        for part in [row[: side - y, x : x + FIELD]]
    )
    tifffile.imwrite(
        images / "large.tif", tiles, shape=(side, side), dtype=field.dtype, tile=(FIELD, FIELD),
        compression="zlib", photometric="minisblack", metadata=None,
    )  # fmt: skip
    segmenter = _Mosaic(labels, side)
    chunk = Chunk(segmenter.spec.spec_id, tuple(list_collection(str(images))))
    commit = process_chunk(chunk, segmenter, create_store(folder / "store"), "bench")
    return commit.n_objects


def measure(side: int, folder: Path, rounds: int, observe: Callable[[str], None]) -> dict[str, Any]:
    """Make an image, open its page, look at all of it, and then at `rounds` places of each level.

    Returns:
        `objects`; `first`: seconds until the first tile of each kind, of the whole image; `tile`:
        median and worst seconds of a tile after that; `peak_bytes`: that this process took more
        than before, at most, and `decoder_bytes` of the one that decodes; pages of the pyramids on
        the disk, which the system may take back, are not among them.
    """
    observe(f"making an image of {side:,} x {side:,} pixels")
    objects = make_large(folder, side)
    viewer, tiles = Viewer(lambda: open_store(folder / "store")), Tiles()
    try:
        ((image_id,),) = viewer.index.ask("SELECT image_id FROM image_rows")
        observe("opening it")
        top = levels(side, side) - 1
        first: dict[str, float] = {}
        with _Memory() as memory:
            for kind in KINDS:
                began = time.perf_counter()
                tiles.draw(viewer.snapshot(), viewer.find(image_id), kind, top, 0, 0)
                first[kind] = time.perf_counter() - began
        observe("looking around")
        taken = _look_around(viewer, tiles, image_id, side, rounds)
    finally:
        tiles.close()
        viewer.close()
    return {
        "side": side, "objects": objects, "first": first, "peak_bytes": memory.own,
        "decoder_bytes": memory.children,
        "tile": {kind: {"median": median(one), "worst": max(one)} for kind, one in taken.items()},
    }  # fmt: skip


def _look_around(
    viewer: Viewer, tiles: Tiles, image_id: str, side: int, rounds: int
) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for level in range(levels(side, side)):
        across = -(-side // (TILE << level))
        for row, column in rng.integers(0, across, (rounds, 2)).tolist():
            for kind in KINDS:
                began = time.perf_counter()
                tiles.draw(viewer.snapshot(), viewer.find(image_id), kind, level, row, column)
                taken[kind].append(time.perf_counter() - began)
    return taken


class _Memory:
    """Looks, many times a second, at what this process and its children hold that is theirs."""

    def __enter__(self) -> _Memory:
        self._process = psutil.Process()
        self._before = self._anonymous(self._process)
        self.own = self.children = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.own = max(self.own, self._anonymous(self._process) - self._before)
            held = sum(self._anonymous(child) for child in self._process.children(recursive=True))
            self.children = max(self.children, held)

    @staticmethod
    def _anonymous(process: psutil.Process) -> int:
        try:
            found = process.memory_info()
        except psutil.Error:
            return 0
        return int(found.rss - found.shared)


def as_text(outcome: Mapping[str, Any], rounds: int) -> str:
    """The outcome as a table."""
    side, peak, decoder = outcome["side"], outcome["peak_bytes"], outcome["decoder_bytes"]
    lines = [
        f"{side:,} x {side:,} pixels, {outcome['objects']:,} objects",
        f"memory: {peak / 1e9:.2f} GB more at most, {decoder / 1e9:.2f} GB where it is decoded",
        f"{'':10}{'first, s':>10}{'tile, ms':>10}{'worst, ms':>11}  {rounds} places of each level",
    ]
    for kind, first in outcome["first"].items():
        tile = outcome["tile"][kind]
        median_ms, worst_ms = 1000 * tile["median"], 1000 * tile["worst"]
        lines.append(f"{kind:10}{first:10.1f}{median_ms:10.0f}{worst_ms:11.0f}")
    return "\n".join(lines)
