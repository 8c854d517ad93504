"""Images in: collections are listed, files are read; nothing about them is trusted."""

from segpipe.readers.collection import EmptyCollection, Listing, list_collection
from segpipe.readers.reader import Reader
from segpipe.readers.watchdog import Watchdog

__all__ = ["EmptyCollection", "Listing", "Reader", "Watchdog", "list_collection"]
