"""The steps of one large image; each but the last may be done by any worker, in any order.

What a step has found is kept in the store's `units`, and so is what kept it from finding anything.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segpipe.batching import Capacity
from segpipe.clock import StageClock
from segpipe.errors import InputError, Reason
from segpipe.items import Entry, Failure, Loaded, guarded
from segpipe.large.classes import ClassParts
from segpipe.large.image import LargeImage, opened, part_header
from segpipe.large.instances import InstanceParts
from segpipe.large.memory import region_limits
from segpipe.large.overview import Overview, look_over
from segpipe.large.parts import Arrays, Parts
from segpipe.large.projection import Projected, Write, project
from segpipe.passes import READ_AHEAD, answers
from segpipe.planning.memory import image_cost
from segpipe.planning.tiles import Tile
from segpipe.records import Chunk, CroppedMask, ImageRef, digest
from segpipe.segmenters.base import PartSegmenter, Segmenter, View
from segpipe.store.files import Files
from segpipe.store.units import Units

OVERVIEW = "overview"

Seconds = tuple[float, float, float]
"""Of decoding, of the forward pass and of finishing."""


def units_key(chunk: Chunk, ref: ImageRef) -> str:
    """Under which the units of an image are kept: they serve any chunk that it is in."""
    return digest("units", chunk.spec_id, ref.version, chunk.generation)[:32]


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of work.

    Attributes:
        index: of the image in its chunk.
        shape: (height, width) of the image.
        row: of its tiles.
    """

    index: int
    shape: tuple[int, int]
    row: int


@dataclass(frozen=True, slots=True, eq=False)
class LargeResult:
    """What a large image became: what there is to say of its objects, see `object_rows.Objects`.

    Attributes:
        seconds: of all its parts.
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
    stages: list[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class LargeWork:
    """A large image and all that it takes to work on it.

    Attributes:
        capacity: of this worker.
        ahead: tiles that may wait between two stages.
    """

    image: LargeImage
    units: Units
    segmenter: PartSegmenter[Any, Any]
    capacity: Capacity
    ahead: int = READ_AHEAD

    def rows_due(self, sha256: Callable[[], str]) -> list[int]:
        """The rows of tiles that nobody has looked at; looks over the image before, if need be.

        Args:
            sha256: of the image's file.

        Raises:
            InputError: the image as a whole cannot be segmented.
        """
        done = self.units.names()
        if OVERVIEW not in done:
            self.units.add(OVERVIEW, look_over(self.image, self.segmenter, sha256).to_bytes())
        return [row for row in range(self.image.rows) if _name(row) not in done]

    def look_at(self, row: int) -> None:
        """Look at a row of tiles, and keep what was found.

        Raises:
            InputError: it cannot be looked at.
        """
        clock = StageClock()
        found = self._found(row, clock)
        self.units.add(_name(row), _packed({**found, "stages": np.array(_json(clock))}))

    def result(self, write: Write) -> LargeResult:
        """Put together what was found, and write the masks; all rows have been looked at.

        Args:
            write: as of `project`.

        Raises:
            InputError: a part could not be looked at, an object was not seen whole, or is too
                large to be measured.
        """
        stages = [json.loads(str(self._read(row)["stages"])) for row in range(self.image.rows)]
        overview = self._overview
        whole = guarded(self._parts.whole, self._read)
        projected: Projected = guarded(
            project, whole, self.image.header.shape, lambda box: self.image.part(box).pixels, write
        )
        return LargeResult(
            self.image.header.shape,
            whole.scores,
            whole.class_ids,
            projected.own_masks,
            whole.saturated,
            whole.n_discarded,
            projected.measures,
            overview,
            _seconds(stages),
            [overview.stages, *stages],
        )

    @property
    def _parts(self) -> Parts:
        if self.segmenter.spec.model.task == "semantic":
            return ClassParts(cast(Any, self.segmenter), self.image.tiling)
        return InstanceParts(self.segmenter, self.image.tiling)

    @property
    def _overview(self) -> Overview:
        return Overview.from_bytes(self.units.read(OVERVIEW))

    def _found(self, row: int, clock: StageClock) -> dict[str, npt.NDArray[Any]]:
        parts, tiles = self._parts, self.image.tiles_of(row)
        load = partial(self._load, tiles, self._overview.view, clock)
        entries = [self._entry(number, tile) for number, tile in enumerate(tiles)]
        found = {}
        for item in answers(entries, load, self.segmenter, self.capacity, clock, self.ahead):
            if isinstance(item, Failure):
                raise item.error
            with clock.stage("postprocess"):
                tile = tiles[item.entry.index]
                found[item.entry.index] = parts.found(tile, item.raw, item.image)
        return parts.arrays([found[number] for number in sorted(found)])

    def _entry(self, number: int, tile: Tile) -> Entry:
        header = part_header(self.image.header, tile.grown)
        cost = image_cost(header, 0, self.segmenter.footprint(header))
        return Entry(number, self.image.ref, header, cost)

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

    def _read(self, row: int) -> Arrays:
        """
        Raises:
            InputError: it could not be looked at.
        """
        arrays = np.load(io.BytesIO(self.units.read(_name(row))), allow_pickle=False)
        if "reason" in arrays:
            raise InputError(Reason(str(arrays["reason"])), str(arrays["detail"]))
        return cast(Arrays, arrays)


def look_at(
    part: Part,
    chunk: Chunk,
    segmenter: Segmenter[Any, Any],
    files: Files,
    capacity: Capacity,
) -> None:
    """Do a unit of work; why it could not be done is kept too, until the image is put together."""
    ref = chunk.images[part.index]
    try:
        with open_work(chunk, ref, part.shape, segmenter, files, capacity) as work:
            work.look_at(part.row)
    except InputError as error:
        failure = {"reason": np.array(str(error.reason)), "detail": np.array(error.detail)}
        Units(files, units_key(chunk, ref)).add(_name(part.row), _packed(failure))


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
    units = Units(files, units_key(chunk, ref))
    with opened(ref, shape, spec, limits) as image:
        yield LargeWork(image, units, cast(Any, segmenter), capacity, ahead)


def _packed(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _json(clock: StageClock) -> str:
    return json.dumps(clock.seconds())


def _name(row: int) -> str:
    return f"row-{row:05d}"


def _seconds(stages: list[dict[str, float]]) -> Seconds:
    def spent(*names: str) -> float:
        return sum(of_row.get(name, 0.0) for of_row in stages for name in names)

    return spent("decode", "preprocess"), spent("forward"), spent("postprocess")
