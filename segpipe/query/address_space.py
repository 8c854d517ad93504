"""A ceiling over a whole process, for what DuckDB's own memory limit does not count."""

from __future__ import annotations

import os
from pathlib import Path

MARGIN_BYTES = 2 << 30
"""Beyond DuckDB's own limit: code, threads' stacks, the answer."""


def limit_address_space(query_bytes: int) -> None:
    """From now on this process gets `query_bytes` and a margin more than it has; Linux only.

    DuckDB's `memory_limit` counts tables and operators, and not the text that a function such as
    `repeat` makes: one row of it can fill a machine. Over the ceiling, allocation fails, which is
    an ordinary error of the query. For a process that does nothing but answer it.
    """
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    import resource

    now = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = now + query_bytes + MARGIN_BYTES
    if most == resource.RLIM_INFINITY or ceiling < most:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, most))
