"""What a store needs now and then so that it stays quick; a night does it at its end."""

from __future__ import annotations

from segpipe.store.compaction import Compaction, compact, is_compaction_due
from segpipe.store.files import Files
from segpipe.store.gc import collect, find_old_compactions


def keep_up(files: Files) -> Compaction | None:
    """Compact if that pays, and remove the compactions that were replaced a day or more ago.

    Nothing but such copies is removed.

    Returns:
        The compaction that was made.

    Raises:
        StoreError: another compaction was quicker.
    """
    made = compact(files) if is_compaction_due(files) else None
    for garbage in find_old_compactions(files):
        collect(files, garbage)
    return made
