"""Parts of the work on one image that are done, kept until the image is: `units/<key>/<name>`.

A unit appears whole or not at all, and the first one stands. They are not results: nothing refers
to them, and whoever lacks one makes it again.
"""

from __future__ import annotations

import hashlib

from segpipe.errors import StoreError, TransientStoreError
from segpipe.store import layout
from segpipe.store.files import Files

_SHA256 = 32


class Units:
    """The units of one image under one spec."""

    def __init__(self, files: Files, key: str) -> None:
        self._files = files
        self._folder = layout.units_folder(key)

    def names(self) -> set[str]:
        """Of those that are done."""
        return set(self._files.names(self._folder))

    def add(self, name: str, data: bytes) -> None:
        """Keep one, unless it is there."""
        self._files.create(self._path(name), hashlib.sha256(data).digest() + data)

    def read(self, name: str) -> bytes:
        """
        Raises:
            StoreError: it is damaged.
            TransientStoreError: it is gone, since somebody else is done with the image.
        """
        path = self._path(name)
        try:
            stored = self._files.read(path)
        except FileNotFoundError as error:
            raise TransientStoreError(f"{path}: is gone; give the same command again") from error
        sum_, data = stored[:_SHA256], stored[_SHA256:]
        if hashlib.sha256(data).digest() != sum_:
            raise StoreError(f"{path}: is damaged; remove it and give the same command again")
        return data

    def clear(self) -> None:
        """Remove all of them."""
        self._files.remove(self._folder)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"
