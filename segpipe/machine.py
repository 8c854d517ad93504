"""The machine: its memory, how to give some of it back, and what its processor is quick at."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes that this process may use at most.

    The machine's memory, or the tightest limit of the control groups it is in (Linux, version 1
    or 2): a container, a service or a batch job is stopped when it takes more.

    Args:
        root: of the file system that `/proc` and `/sys` are read from.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits(root)])


def give_back_free_memory() -> None:
    """Hand the system what this process has freed and its allocator keeps; glibc's can do that."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return  # another C library
    trim(0)


def cpu_has_bf16(root: Path = Path("/")) -> bool:
    """Whether this machine's processor multiplies bfloat16 (Linux; x86 or ARM).

    Args:
        root: of the file system that `/proc` is read from.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of each control group of this process and of all that it lies in."""
    for mount, name, group in _groups(root):
        folder = root / mount
        for part in ("", *Path(group).parts[1:]):
            folder = folder / part
            try:
                yield int((folder / name).read_text("ascii"))
            except (OSError, ValueError):
                continue  # The root has none, a container does not see its own path, or "max".


def _groups(root: Path) -> Iterator[tuple[str, str, str]]:
    """(folder of the hierarchy, file with a limit, this process's group in it)."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield "sys/fs/cgroup", "memory.max", group
        elif "memory" in controllers.split(","):
            yield "sys/fs/cgroup/memory", "memory.limit_in_bytes", group
