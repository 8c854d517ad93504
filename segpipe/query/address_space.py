"""A ceiling over a whole process, for what DuckDB's own memory limit does not count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARGIN_BYTES = 2 << 30
"""Beyond DuckDB's own limit: code, threads' stacks, the answer."""


@contextmanager
def limited_address_space(query_bytes: int) -> Iterator[None]:
    """Inside the block this process gets `query_bytes` and a margin more than it has; Linux only.

    DuckDB's `memory_limit` counts tables and operators, and not the text that a function such as
    `repeat` makes: one row of it can fill a machine. Over the ceiling, allocation fails, which is
    an ordinary error of the query. For a process that does nothing else meanwhile.
    """
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    import resource

    now = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = now + query_bytes + MARGIN_BYTES
    known = [limit for limit in (before, most) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([ceiling, *known]), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))
