"""From the address of a store to its files."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import SpecError
from segpipe.store.files import Files, LocalFiles


def files_at(address: str | Path) -> Files:
    """The files of a folder, or of a bucket where there is a scheme; whatever is in it.

    Raises:
        SpecError: no such kind of address.
    """
    if isinstance(address, Path) and address.parts[:1] in {("s3:",), ("gs:",), ("az:",)}:
        raise SpecError(f"{address}: give an address as text; as a path it loses a slash")
    if "://" not in str(address):
        return LocalFiles(address)
    from segpipe.store.objects import ObjectFiles

    return ObjectFiles(str(address))
