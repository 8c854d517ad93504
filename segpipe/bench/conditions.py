"""The machine and the versions that a benchmark's numbers were made with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segpipe.provenance.environment import cpu_model, describe_checkout, installed_packages

PACKAGES = ("segpipe", "torch", "torchvision", "zarr", "pyarrow", "dask", "prefect", "numpy")
"""Whose versions a number depends on, unless a benchmark says otherwise."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the numbers of any benchmark depend on; `asdict` of it stands in every JSON result.

    Attributes:
        device: name of the processor or the accelerator.
        cores: that this process may use.
        threads: computing threads of a worker.
        commit: first digits of the checkout's, with `+` behind where files differ; None elsewhere.
        packages: versions.
    """

    device: str
    cores: int
    threads: int
    commit: str | None
    packages: dict[str, str]

    def to_text(self) -> str:
        """Two lines for the end of a report."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        commit = "" if self.commit is None else f"; commit {self.commit}"
        return f"{self.device}, {cores}; {threads}\n{packages}{commit}"


def describe_conditions(
    device: str = "cpu", threads: int | None = None, packages: Iterable[str] = PACKAGES
) -> Conditions:
    """The conditions on this machine.

    Args:
        device: `cpu` or `cuda`.
        threads: as in `Conditions`; None for one for each core.
        packages: names of distributions; those that are not installed are left out.
    """
    cores = len(os.sched_getaffinity(0))
    installed = installed_packages()
    return Conditions(
        device=_device(device),
        cores=cores,
        threads=threads or cores,
        commit=_commit(),
        packages={name: installed[name] for name in packages if name in installed},
    )


def _device(kind: str) -> str:
    if kind == "cpu":
        return cpu_model()
    from segpipe.segmenters.devices import device_name

    return device_name()


def _commit() -> str | None:
    checkout = describe_checkout(Path(__file__).resolve().parents[2])
    if checkout is None:
        return None
    return f"{checkout['commit'][:12]}{'+' if checkout['dirty'] else ''}"
