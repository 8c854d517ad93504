"""What went wrong with object storage, in the words of all stores."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from segpipe.errors import StoreError, TransientStoreError

_FINAL = (PermissionDeniedError, UnauthenticatedError, NotSupportedError, InvalidPathError)
# Of the client errors, only these pass by themselves: time-out, conflict, too many requests.
_FINAL_STATUS = re.compile(r"status code: (?!408|409|429)(?:4\d\d|501)")
_REPLY = re.compile(r":?\s*(?:<\?xml|<Error>).*", re.DOTALL)
_REASON = re.compile(r"<(?:Code|Message)>([^<]*)<")


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Errors of the library become `FileNotFoundError`, `StoreError` or `TransientStoreError`."""
    try:
        yield
    except FileNotFoundError:
        raise absent(url) from None
    except BaseError as error:
        raise failure(url, error) from None


def absent(url: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)


def failure(url: str, error: Exception) -> StoreError:
    """Whether trying again may help is in the type."""
    text = told(error)
    final = isinstance(error, (FileNotFoundError, *_FINAL)) or _FINAL_STATUS.search(text)
    return StoreError(f"{url}: {text}") if final else TransientStoreError(f"{url}: {text}")


def told(error: Exception) -> str:
    """The library's message without its debugging pages, and the server's without markup."""
    message = str(error).partition("\n\nDebug source")[0]
    return ": ".join([_REPLY.sub("", message), *_REASON.findall(message)])[:500]
