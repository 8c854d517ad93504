"""URIs and readable paths from the bytes of a name.

A name is bytes, and any bytes must come back: undecodable ones, newlines, `=cmd`, markup. The key
of an object in a bucket is text, and counts as its UTF-8. A URI percent-encodes every byte that is
not an ASCII letter, a digit or one of `_.-~/`; so it never holds a `!` of its own, and `!/`
separates an archive from its member without doubt.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote_to_bytes

_SCHEME = "file://"
_MEMBER = "!/"
_OBJECT = re.compile(r"((?:s3|gs|az)://[^/?#@]+)(?:/([^?#]*))?")


def file_uri(path: str) -> str:
    """`file:///a/b%20c.png`, absolute; symbolic links are left as they are."""
    return _SCHEME + quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - Path decodes no bytes


def object_uri(bucket: str, key: str) -> str:
    """`s3://bucket/a/b%20c.png` of an object in the bucket `s3://bucket`."""
    return f"{bucket}/{quote(key)}"


def is_object_uri(uri: str) -> bool:
    """Whether `uri` is for `split_object_uri` to take apart."""
    return uri.startswith(("s3://", "gs://", "az://"))


def member_uri(archive: str, name: bytes) -> str:
    """URI of the member `name` of the archive whose URI is `archive`."""
    return archive + _MEMBER + quote(name)


def split_uri(uri: str) -> tuple[str, bytes | None]:
    """(path, name of the archive member or None): the inverse of the two functions above.

    Raises:
        ValueError: it is no `file:///` URI.
    """
    if not uri.startswith(_SCHEME + "/"):
        raise ValueError("only file:///, s3://, gs:// and az:// are read")
    outer, member = split_member(uri.removeprefix(_SCHEME))
    return os.fsdecode(unquote_to_bytes(outer)), member


def split_object_uri(uri: str) -> tuple[str, str]:
    """(bucket as `s3://bucket`, key) of the URI of an object, without a member.

    Raises:
        ValueError: it is no such URI, or one with a user or a query, which may be secret.
    """
    found = _OBJECT.fullmatch(uri)
    if found is None:
        raise ValueError("not an address of an object; ? is written as %3F, # as %23")
    return found[1], unquote_to_bytes(found[2] or "").decode("utf-8")


def split_member(uri: str) -> tuple[str, bytes | None]:
    """(URI of the file or object, name of the archive member or None)."""
    outer, separator, member = uri.partition(_MEMBER)
    return outer, unquote_to_bytes(member) if separator else None


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
