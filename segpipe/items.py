"""What travels through the pipeline: an image, at each stage of its way, or its failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from segpipe.errors import InputError, Reason, StoreError
from segpipe.planning.memory import Cost
from segpipe.records import DecodedImage, Header, ImageRef

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that can probably be read, and what it will cost."""

    index: int
    ref: ImageRef
    header: Header
    cost: Cost


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without a result."""

    ref: ImageRef
    error: InputError
    header: Header | None

    @classmethod
    def of(cls, ref: ImageRef, error: InputError, header: Header | None = None) -> Failure:
        """The failure that was caught, without the frames it came through and all they hold."""
        return cls(ref, InputError(error.reason, error.detail), header)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image in memory, ready for the model."""

    entry: Entry
    image: DecodedImage
    prepared: Any
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What the model said of an image; `seconds` are of loading and of the forward pass."""

    entry: Entry
    image: DecodedImage
    raw: Any
    seconds: tuple[float, float]


def waiting_bytes(item: Loaded | Answered | Failure) -> int:
    """What an item takes of the memory while it waits between two stages."""
    return 0 if isinstance(item, Failure) else item.entry.cost.waiting


def blame(error: Exception) -> InputError:
    """What a segmenter raised on one image, as that image's failure."""
    reason = Reason.TOO_LARGE if isinstance(error, MemoryError) else Reason.SEGMENTER_ERROR
    return InputError(reason, f"{type(error).__name__}: {error}"[:500])


def guarded(stage: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Run a stage of a segmenter; what it raises on one image is that image's failure."""
    try:
        return stage(*arguments, **named)
    except (InputError, StoreError, OSError):
        raise  # no stage reads its image: what the system refuses here, it refuses the process
    except Exception as error:
        raise blame(error) from error
