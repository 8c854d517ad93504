"""Workers on this machine, and workers that are there already."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from segpipe.clusters.base import BaseCluster, Count, Line, ScaledCluster, Word
from segpipe.errors import SpecError


class Local(ScaledCluster):
    """Worker processes on this machine.

    Attributes:
        workers: None for one per GPU, or one on a CPU.
        cores: that each computes with; None for an equal share of this machine's.
    """

    kind: Literal["local"] = "local"
    cores: Count | None = None

    advice: ClassVar[str] = "what they say stands above"

    @property
    def place(self) -> str:
        return "this machine"

    def settled(self, cores: int, gpus: int) -> Self:
        workers = self.maximum or self.workers or max(1, gpus)
        how_many = {} if self.adaptive else {"workers": workers}
        return self.model_copy(update=how_many | {"cores": self.cores or max(1, cores // workers)})


class Cuda(BaseCluster):
    """One worker for each GPU of this machine (dask-cuda).

    Attributes:
        devices: as in CUDA_VISIBLE_DEVICES: numbers, or UUIDs; () for every one that is visible.
        cores: that each worker computes with; None for an equal share of this machine's.
    """

    kind: Literal["cuda"] = "cuda"
    devices: tuple[int | Word, ...] = ()
    cores: Count | None = None

    advice: ClassVar[str] = "what they say stands above"

    @property
    def place(self) -> str:
        return "the GPUs of this machine"

    def settled(self, cores: int, gpus: int) -> Self:
        """As above.

        Raises:
            SpecError: there is no GPU.
        """
        if not gpus:
            raise SpecError(
                "[cluster] kind = 'cuda': this run sees no GPU that torch can use; look at "
                "`nvidia-smi`, and at device (auto or cuda), or take kind = 'local'"
            )
        workers = len(self.devices) or gpus
        return self.model_copy(update={"cores": self.cores or max(1, cores // workers)})


class Existing(BaseCluster):
    """The workers of a Dask scheduler that runs already; they stay when the run ends.

    Attributes:
        address: as `dask scheduler` prints it, e.g. `tcp://host:8786`.
    """

    kind: Literal["address"] = "address"
    address: Line

    advice: ClassVar[str] = "start some with `dask worker`"

    @property
    def cores(self) -> None:
        """As many as each worker was started with threads."""

    @property
    def place(self) -> str:
        return f"the scheduler {self.address}"
