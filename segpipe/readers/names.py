"""URIs and readable paths from the bytes of a name.

A name is bytes, and any bytes must come back: undecodable ones, newlines, `=cmd`, markup. A URI
percent-encodes every byte that is not an ASCII letter, a digit or one of `_.-~/`; so it never
holds a `!` of its own, and `!/` separates an archive from its member without doubt.
"""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

_SCHEME = "file://"
_MEMBER = "!/"


def file_uri(path: str) -> str:
    """`file:///a/b%20c.png`, absolute; symbolic links are left as they are."""
    return _SCHEME + quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - Path decodes no bytes


def member_uri(archive: str, name: bytes) -> str:
    """URI of the member `name` of the archive whose URI is `archive`."""
    return archive + _MEMBER + quote(name)


def split_uri(uri: str) -> tuple[str, bytes | None]:
    """(path, name of the archive member or None): the inverse of the two functions above.

    Raises:
        ValueError: it is no `file:///` URI.
    """
    if not uri.startswith(_SCHEME + "/"):
        raise ValueError(f"{uri!r}: only file:/// URIs are read in this version")
    outer, separator, member = uri.removeprefix(_SCHEME).partition(_MEMBER)
    return os.fsdecode(unquote_to_bytes(outer)), unquote_to_bytes(member) if separator else None


def readable(name: bytes) -> str:
    """`name` for people: UTF-8 as it is, the rest percent-encoded.

    Encoded are bytes that are not UTF-8, characters that cannot be printed (control characters,
    newlines, invisible ones such as a change of writing direction) and `%` itself; therefore
    `urllib.parse.unquote_to_bytes` gives back exactly `name`.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "%" not in text:
        return text
    return "".join(char if char.isprintable() and char != "%" else _percent(char) for char in text)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
