"""Everything segpipe raises on purpose, by who must act.

SegpipeError
├── SpecError             the caller: an argument, a configuration, a query (exit code 2)
│   └── WeightsError      a weights file that is refused
├── InputError            one image: it becomes a `failed` row with a reason, the run goes on
├── BudgetError           work that would not fit the configured memory
├── StoreError            the store, or the bucket of the images, cannot be used as it is
│   └── TransientStoreError   an operation that may succeed when tried again
├── EngineError           the cluster cannot do the work (no worker, no scheduler)
└── InvariantError        a promise of segpipe itself is broken: a bug, please report it
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an image has no result: the closed list that `images.reason` holds."""

    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_PIXEL_TYPE = "unsupported_pixel_type"
    UNSUPPORTED_CHANNELS = "unsupported_channels"
    TIME_LIMIT = "time_limit"
    NOT_FOUND = "not_found"
    NO_PERMISSION = "no_permission"
    NOT_A_FILE = "not_a_file"
    UNSAFE_MEMBER = "unsafe_member"
    READ_ERROR = "read_error"
    DEVICE_OUT_OF_MEMORY = "device_out_of_memory"
    WORKER_DIED = "worker_died"
    SEGMENTER_ERROR = "segmenter_error"


class SegpipeError(Exception):
    """Base of every error that segpipe raises on purpose."""


class SpecError(SegpipeError, ValueError):
    """What was asked for cannot be done as asked; the message says what is allowed."""


class WeightsError(SpecError):
    """A weights file that is refused: not safetensors, a wrong hash, a wrong header."""


class InputError(SegpipeError):
    """One image cannot be segmented.

    Attributes:
        reason: the entry of the closed list that goes into `images.reason`.
        detail: one sentence for people, with the value and the limit.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[InputError], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)


class BudgetError(SegpipeError):
    """Work that would exceed the configured memory; names what is needed and what is allowed."""


class StoreError(SegpipeError):
    """The store, or the storage that images are read from, cannot be used as it is."""


class TransientStoreError(StoreError):
    """Storage failed in a way that may pass; trying again is right."""


class EngineError(SegpipeError):
    """The cluster cannot do the work."""


class BusyError(SegpipeError):
    """Another run is doing the same work."""


class TooManyFailedError(SegpipeError):
    """A run ended well, and more of its images failed than it was to accept."""


class InvariantError(SegpipeError):
    """A promise of segpipe is broken. This is a bug in segpipe, not in the input."""
