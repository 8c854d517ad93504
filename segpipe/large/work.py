"""The steps of one large image; each but the last may be done by any worker, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segpipe.batching import Capacity
from segpipe.clock import StageClock
from segpipe.errors import InputError, Reason
from segpipe.geometry import Box
from segpipe.items import Entry, Failure, Loaded, guarded
from segpipe.large.classes import ClassParts
from segpipe.large.cut import row_of, rows_of, tiling_of, widest_halo
from segpipe.large.image import LargeImage, opened
from segpipe.large.instances import InstanceParts
from segpipe.large.kept import KeptParts, stages_of
from segpipe.large.memory import region_limits
from segpipe.large.overview import Overview, look_over
from segpipe.large.parts import Arrays, Method
from segpipe.large.projection import Projected, Write, project
from segpipe.passes import READ_AHEAD, answers
from segpipe.planning.memory import image_cost
from segpipe.planning.tiles import Tile, Tiling
from segpipe.records import Chunk, CroppedMask, ImageRef, Pixels, digest
from segpipe.segmenters.base import PartSegmenter, Segmenter, View
from segpipe.store.files import Files
from segpipe.store.units import Units

Seconds = tuple[float, float, float]
"""Of decoding, of the forward pass and of finishing."""


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of work.

    Attributes:
        index: of the image in its chunk.
        shape: (height, width) of the image.
        halo: with which it is cut.
        row: of its tiles.
    """

    index: int
    shape: tuple[int, int]
    halo: int
    row: int


@dataclass(frozen=True, slots=True, eq=False)
class LargeResult:
    """What a large image became: what there is to say of its objects, see `object_rows.Objects`.

    Attributes:
        seconds: of all its parts.
        georeference: of the image, plain JSON; None where it has none.
        stages: stage -> seconds that other workers or earlier runs spent on it, see `clock`.
    """

    shape: tuple[int, int]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    own_masks: Mapping[int, CroppedMask]
    saturated: bool
    n_discarded: int
    measures: Mapping[str, Any]
    overview: Overview
    seconds: Seconds
    georeference: Mapping[str, Any] | None
    stages: list[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class LargeWork:
    """A large image and all that it takes to work on it.

    Attributes:
        capacity: of this worker.
        ahead: tiles that may wait between two stages.
    """

    image: LargeImage
    kept: KeptParts
    segmenter: PartSegmenter[Any, Any]
    capacity: Capacity
    ahead: int = READ_AHEAD

    def parts_due(self, index: int, sha256: Callable[[], str]) -> list[Part]:
        """The parts that nobody has looked at; looks over the image before, if need be.

        Args:
            index: of the image in its chunk.
            sha256: of the image's file.

        Raises:
            InputError: the image as a whole cannot be segmented.
        """
        if not self.kept.looked_over:
            self.kept.keep_overview(look_over(self.image, self.segmenter, sha256))
        tiling = self._tiling(self._overview())
        done = self.kept.rows(tiling.halo, rows_of(tiling))
        due = (row for row in range(rows_of(tiling)) if row not in done)
        return [Part(index, tiling.shape, tiling.halo, row) for row in due]

    def widen(self) -> bool:
        """From now on the image is cut with halos twice as wide.

        Returns:
            Whether that can be: there is room in a part, and nobody has said how wide they are.
        """
        overview = self._overview()
        halo = self._tiling(overview).halo
        wider = min(2 * halo, widest_halo(overview.side))
        assert self.segmenter.spec.tiles is not None
        if self.segmenter.spec.tiles.halo is not None or wider == halo:
            return False
        self.kept.widen(wider)
        return True

    def look_at(self, part: Part) -> None:
        """Look at a row of tiles, and keep what was found.

        Raises:
            InputError: it cannot be looked at.
        """
        clock, overview = StageClock(), self._overview()
        tiling = tiling_of(overview.shape, overview.side, part.halo)
        found = self._found(tiling, part.row, overview.view, clock)
        self.kept.keep(part.halo, part.row, found, clock.seconds())

    def result(self, write: Write) -> LargeResult:
        """Put together what was found, and write the masks; all parts have been looked at.

        Args:
            write: as of `project`.

        Raises:
            InputError: a part could not be looked at, an object was not seen whole
                (`NarrowHaloError`), or is too large to be measured.
        """
        overview = self._overview()
        tiling = self._tiling(overview)
        stages: dict[int, dict[str, float]] = {}

        def read(row: int) -> Arrays:
            arrays = self.kept.read(tiling.halo, row)
            stages[row] = stages_of(arrays)
            return arrays

        whole = guarded(self._method(tiling).whole, read)
        projected: Projected = guarded(project, whole, tiling.shape, self._pixels, write)
        return LargeResult(
            tiling.shape,
            whole.scores,
            whole.class_ids,
            projected.own_masks,
            whole.saturated,
            whole.n_discarded,
            projected.measures,
            overview,
            _seconds(stages.values()),
            self.image.georeference,
            [overview.stages, *stages.values()],
        )

    def _overview(self) -> Overview:
        overview = self.kept.overview()
        if overview.shape != self.image.header.shape:
            raise InputError(Reason.READ_ERROR, "the file was replaced while it was read")
        return overview

    def _tiling(self, overview: Overview) -> Tiling:
        """With the widest halo that was asked for."""
        halo = max(overview.halo, self.kept.wider)
        return tiling_of(overview.shape, overview.side, halo)

    def _method(self, tiling: Tiling) -> Method:
        if self.segmenter.spec.model.task == "semantic":
            return ClassParts(cast(Any, self.segmenter), tiling)
        return InstanceParts(self.segmenter, tiling)

    def _found(
        self, tiling: Tiling, row: int, view: View, clock: StageClock
    ) -> dict[str, npt.NDArray[Any]]:
        method, tiles = self._method(tiling), row_of(tiling, row)
        entries = [self._entry(number, tile, view) for number, tile in enumerate(tiles)]
        load = partial(self._load, tiles, view, clock)
        found = {}
        for item in answers(entries, load, self.segmenter, self.capacity, clock, self.ahead):
            if isinstance(item, Failure):
                raise item.error
            number = item.entry.index
            with clock.stage("postprocess"):
                found[number] = method.found(tiles[number], item.raw, item.image)
        with clock.stage("forward"):
            refined = [
                method.refined(found[number], tile, partial(self.image.part, tile.grown), view)
                for number, tile in enumerate(tiles)
            ]
        return method.arrays(refined)

    def _entry(self, number: int, tile: Tile, view: View) -> Entry:
        header = self.image.header.of_part(tile.grown)
        footprint = self.segmenter.part_footprint(header, view.magnification)
        return Entry(number, self.image.ref, header, image_cost(header, 0, footprint))

    def _load(
        self, tiles: list[Tile], view: View, clock: StageClock, entry: Entry
    ) -> Loaded | Failure:
        try:
            with clock.stage("decode") as decoding:
                part = self.image.part(tiles[entry.index].grown)
            with clock.stage("preprocess") as preparing:
                prepared = guarded(self.segmenter.prepare_part, part, view)
        except InputError as error:
            return Failure.of(entry.ref, error, entry.header)
        return Loaded(entry, part, prepared, decoding.seconds + preparing.seconds)

    def _pixels(self, box: Box) -> Pixels:
        return self.image.part(box).pixels


@contextmanager
def open_work(
    chunk: Chunk,
    ref: ImageRef,
    shape: tuple[int, int],
    segmenter: Segmenter[Any, Any],
    files: Files,
    capacity: Capacity,
    ahead: int = READ_AHEAD,
) -> Iterator[LargeWork]:
    """In the block the image is open.

    Args:
        shape: (height, width) of the image.
        segmenter: whose spec has tiles, and which can look at parts therefore.

    Raises:
        InputError: as `opened`.
    """
    spec = segmenter.spec
    limits = region_limits(spec.limits, spec.decoding.max_pixels, capacity.budget.room)
    with opened(ref, shape, limits) as image:
        yield LargeWork(image, kept_parts(files, chunk, ref), cast(Any, segmenter), capacity, ahead)


def look_at(
    part: Part, chunk: Chunk, segmenter: Segmenter[Any, Any], files: Files, capacity: Capacity
) -> None:
    """Do a unit of work; why it could not be done is kept too, until the image is put together."""
    ref = chunk.images[part.index]
    try:
        with open_work(chunk, ref, part.shape, segmenter, files, capacity) as work:
            work.look_at(part)
    except InputError as error:
        kept_parts(files, chunk, ref).keep_failure(part.halo, part.row, error)


def kept_parts(files: Files, chunk: Chunk, ref: ImageRef) -> KeptParts:
    """Of an image; they serve any chunk that it is in."""
    key = digest("units", chunk.spec_id, ref.version, chunk.generation)[:32]
    return KeptParts(Units(files, key))


def _seconds(rows: Iterable[Mapping[str, float]]) -> Seconds:
    stages = list(rows)

    def spent(*names: str) -> float:
        return sum(of_row.get(name, 0.0) for of_row in stages for name in names)

    return spent("decode", "preprocess"), spent("forward"), spent("postprocess")
