"""Which file of a table is damaged: Arrow says what is wrong with a page, and not where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from segpipe.errors import StoreError
from segpipe.store.files import Files


class Parts(Protocol):
    """What is needed of a snapshot."""

    @property
    def files(self) -> Files: ...
    def parts(self, table: str) -> list[str]: ...


@contextmanager
def named_damage(snapshot: Parts, table: str) -> Iterator[None]:
    """Where the block reads a table, an error in one of its files names that file.

    Raises:
        StoreError: a file of the table is damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is None:  # else the system said no, and to what
            raise_named(snapshot, table, error)
        raise


def raise_named(snapshot: Parts, table: str, error: Exception) -> None:
    """Read all parts once more: the one that fails is it. If none does, nothing is raised.

    Raises:
        StoreError: names it.
    """
    for part in snapshot.parts(table):
        try:
            for _ in ds.dataset([part], filesystem=snapshot.files.arrow()).to_batches():
                pass
        except (pa.ArrowException, OSError) as damage:
            raise StoreError(
                f"{snapshot.files.address}/{part}: damaged: {damage}; `segpipe fsck "
                f"{snapshot.files.address}` tells what else is"
            ) from error
