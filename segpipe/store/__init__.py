"""Results on disk: masks, tables, commits, and the checks that they are what they were."""

from segpipe.store.snapshot import Snapshot, create_store, open_store

__all__ = ["Snapshot", "create_store", "open_store"]
