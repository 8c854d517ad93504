"""Workers that somebody else has started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from segpipe.errors import EngineError


@contextmanager
def existing_cluster(address: str) -> Iterator[Client]:
    """The workers of a scheduler that runs already; they stay when the block ends.

    Raises:
        EngineError: nobody answers there.
    """
    try:
        client = Client(address, timeout="15s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise EngineError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client
