"""What was found in the parts of a large image, as units of the store."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segpipe.errors import InputError, Reason
from segpipe.large.overview import Overview
from segpipe.large.parts import Arrays
from segpipe.store.units import Units

_OVERVIEW = "overview"
_WIDER = "wider-"


@dataclass(frozen=True, slots=True)
class KeptParts:
    """The units of one image."""

    units: Units

    @property
    def looked_over(self) -> bool:
        """Whether there is an overview."""
        return _OVERVIEW in self.units.names()

    def overview(self) -> Overview:
        """
        Raises:
            TransientStoreError: it is gone, since somebody else is done with the image.
        """
        return Overview.from_bytes(self.units.read(_OVERVIEW))

    def keep_overview(self, overview: Overview) -> None:
        self.units.add(_OVERVIEW, overview.to_bytes())

    @property
    def wider(self) -> int:
        """The widest halo that was asked for, since narrower ones were not enough; 0 for none."""
        names = (name for name in self.units.names() if name.startswith(_WIDER))
        return max((int(name.removeprefix(_WIDER)) for name in names), default=0)

    def widen(self, halo: int) -> None:
        """Ask for it."""
        self.units.add(f"{_WIDER}{halo}", b"")

    def rows(self, halo: int, count: int) -> set[int]:
        """Of rows 0 to `count`, those that were looked at with this halo."""
        names = self.units.names()
        return {row for row in range(count) if _name(halo, row) in names}

    def keep(
        self,
        halo: int,
        row: int,
        found: Mapping[str, npt.NDArray[Any]],
        stages: Mapping[str, float],
    ) -> None:
        """What was found in a row of tiles, and the seconds that it took, see `clock`."""
        self._add(halo, row, {**found, "stages": np.array(json.dumps(stages))})

    def keep_failure(self, halo: int, row: int, error: InputError) -> None:
        """Why nothing could be."""
        about = {"reason": np.array(str(error.reason)), "detail": np.array(error.detail)}
        self._add(halo, row, about)

    def read(self, halo: int, row: int) -> Arrays:
        """What was found in a row of tiles; arrays are unpacked when they are asked for.

        Raises:
            InputError: it could not be looked at.
        """
        arrays = np.load(io.BytesIO(self.units.read(_name(halo, row))), allow_pickle=False)
        if "reason" in arrays:
            raise InputError(Reason(str(arrays["reason"])), str(arrays["detail"]))
        return cast(Arrays, arrays)

    def _add(self, halo: int, row: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        self.units.add(_name(halo, row), file.getvalue())


def stages_of(arrays: Arrays) -> dict[str, float]:
    """The seconds that a row of tiles took, see `clock`."""
    stages: dict[str, float] = json.loads(str(arrays["stages"]))
    return stages


def _name(halo: int, row: int) -> str:
    return f"row-{row:05d}-halo-{halo}"
