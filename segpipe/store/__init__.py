"""Results on disk: masks, tables, commits, and the checks that they are what they were."""

from segpipe.store.opening import create_store, open_store
from segpipe.store.snapshot import Snapshot

__all__ = ["Snapshot", "create_store", "open_store"]
