"""What the clusters of several kinds have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from segpipe.frozen import Frozen

Count = Annotated[int, Field(ge=1, le=10_000)]
Word = Annotated[str, Field(pattern=r"^[\w.@%+:/,=-]+$", max_length=1000)]
"""One word of a command line or of a job script."""
Line = Annotated[str, Field(pattern=r"^[^\n\r]+$", max_length=10_000)]
Path = Annotated[str, Field(pattern=r"^[^\n\r]+$", max_length=4096)]


class BaseCluster(Frozen):
    """What a cluster of every kind has.

    Attributes:
        memory_gb: what a worker may use, in units of 10^9 bytes.
        wait_minutes: how long a run goes on without a single worker; None for what is usual with
            the kind: for ever where jobs wait in a queue, else ten minutes.
    """

    memory_gb: float | None = Field(None, gt=0, le=1e6)
    wait_minutes: float | None = Field(None, gt=0, le=1e7)

    usual_wait: ClassVar[float | None] = 10
    advice: ClassVar[str]

    @property
    def memory(self) -> int | None:
        """Bytes that a worker may use; None where that was not said."""
        return None if self.memory_gb is None else int(self.memory_gb * 1e9)

    @property
    def wait_seconds(self) -> float | None:
        """Without a worker; None for ever."""
        minutes = self.usual_wait if self.wait_minutes is None else self.wait_minutes
        return None if minutes is None else 60 * minutes

    @property
    def place(self) -> str:
        """For messages: where its workers are."""
        raise NotImplementedError

    def settled(self, cores: int, gpus: int) -> Self:
        """With the numbers filled in that this machine decides.

        Args:
            cores: that this process may use.
            gpus: that torch can use here; 0 when the run computes on a CPU.
        """
        del cores, gpus
        return self


class ScaledCluster(BaseCluster):
    """A cluster with a number of workers, or with as many as there is work for.

    Attributes:
        workers: how many, all the time.
        minimum, maximum: or else at least and at most so many, as there are chunks to do.
    """

    workers: Count | None = None
    minimum: int | None = Field(None, ge=0, le=10_000)
    maximum: Count | None = None

    @model_validator(mode="after")
    def _one_way_to_say_how_many(self) -> Self:
        if self.workers is not None and (self.minimum, self.maximum) != (None, None):
            raise ValueError("give `workers`, or `minimum` and `maximum`, not both")
        if self.minimum is not None and self.maximum is None:
            raise ValueError("`minimum` needs a `maximum`")
        if self.maximum is not None and (self.minimum or 0) > self.maximum:
            raise ValueError(f"minimum = {self.minimum} is more than maximum = {self.maximum}")
        return self

    @property
    def adaptive(self) -> bool:
        """Whether workers come and go with the work."""
        return self.maximum is not None

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most workers."""
        if self.maximum is not None:
            return self.minimum or 0, self.maximum
        return self.workers or 1, self.workers or 1


class SizedCluster(ScaledCluster):
    """A cluster somewhere else: how many workers and how large each is must be said."""

    cores: Count
    memory_gb: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if self.workers is None and self.maximum is None:
            raise ValueError("give `workers`, or `maximum` for as many as there is work for")
        return self
