"""What went wrong with object storage, in the words of stores, and in those of images."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from segpipe.errors import InputError, Reason, StoreError, TransientStoreError
from segpipe.provenance.redact import redact_text

_FINAL = (PermissionDeniedError, UnauthenticatedError, NotSupportedError, InvalidPathError)
# Of the client errors, only these pass by themselves: time-out, conflict, too many requests.
_FINAL_STATUS = re.compile(r"status code: (?!408|409|429)(?:4\d\d|501)")
# Said in reply to a request for one object, and of all of them.
_OF_ALL = re.compile(
    "NoSuchBucket|ContainerNotFound|AccountIsDisabled|ExpiredToken|InvalidToken|"
    "TokenRefreshRequired|InvalidAccessKeyId|SignatureDoesNotMatch|RequestTimeTooSkewed|"
    "AuthenticationFailed|"
    # A reply to HEAD has no text; S3 says so of a token that has expired.
    r"status code: 400 Bad Request:?\s*\Z"
)
_REQUEST = re.compile(r"Error performing (?:GET|HEAD) (\S+) in ")
_STATUS = re.compile(r"status code: (.*)", re.DOTALL)
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
    """The library's message without its debugging pages, and the server's without markup.

    Addresses in it are without what somebody could log in with.
    """
    message = redact_text(str(error).partition("\n\nDebug source")[0])
    return ": ".join([_REPLY.sub("", message), *_REASON.findall(message)])[:500]


def input_error(url: str, error: Exception) -> InputError:
    """Why one object cannot be read, by reason.

    Raises:
        StoreError: it is not the object's fault: no bucket, or no valid credentials.
        TransientStoreError: the storage gave no clear answer; another time it may.
    """
    if isinstance(error, (ValueError, InvalidPathError)):
        return InputError(Reason.NOT_FOUND, f"no object with this key can be read: {error}")
    if isinstance(error, PreconditionError):
        return InputError(
            Reason.READ_ERROR, "the object was overwritten or removed since it was listed"
        )
    refused = failure(url, error)
    text = str(refused)
    said = _STATUS.search(text)
    of_all = isinstance(error, UnauthenticatedError) or _OF_ALL.search(text)
    if isinstance(refused, TransientStoreError) or of_all or not said:
        raise refused from None
    detail = f"the storage says: {said[1].rstrip(': ')}"
    if isinstance(error, FileNotFoundError):
        return InputError(Reason.NOT_FOUND, detail)
    if isinstance(error, PermissionDeniedError):
        return InputError(Reason.NO_PERMISSION, detail)
    if not _is_about(url, text):
        raise refused from None
    return InputError(Reason.READ_ERROR, detail)


def _is_about(url: str, text: str) -> bool:
    """Whether it was the request for the object that failed, and not one for credentials."""
    asked = _REQUEST.search(text)
    key = url.partition("://")[2].partition("/")[2]
    return asked is not None and unquote(asked[1].partition("?")[0]).endswith(f"/{key}")


def is_server_error(error: Exception) -> bool:
    """Whether the storage failed (500), as it may on one object or on all."""
    return isinstance(error, BaseError) and "status code: 500" in str(error)
