"""Addresses without their secrets: what a record may say of where things were."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# `user:password@` up to the last @ of the authority; of a password with an unquoted slash, as in
# some S3 keys, up to the last @ of all, unless what follows the colon is a port.
_USER = re.compile(r"(?<=://)(?:[^/?#:]*:(?!\d+(?:[/?#]|$)).*@|[^/?#]*@)", re.DOTALL)
_BARE_USER = re.compile(r"\A[^/\\:@]*:[^/\\@]+@(?=[^/\\@])")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?]+)=([^&;#]*)")
_PUBLIC_PARAMETERS = {"versionid", "generation", "snapshot"}


def redact_url(address: str) -> str:
    """An address without user, password and query values; a plain path comes back unchanged.

    Chained fsspec addresses (`zip://a.png::s3://...`) are redacted link by link. A query value is
    kept only where its name is known to be harmless: any other may be a token.
    """
    return "::".join(_redact_link(link) for link in address.split("::"))


def redact_text(text: str) -> str:
    """A message, with each address that stands in it redacted."""
    return _ADDRESS.sub(lambda found: redact_url(found[0]), text)


def redact(value: Any) -> Any:
    """Plain JSON with `redact_url` done to every string in it, keys aside."""
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, Mapping):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [redact(item) for item in value]
    return value


def _redact_link(link: str) -> str:
    if "://" not in link:
        return _BARE_USER.sub(f"{HIDDEN}@", link)
    return _PARAMETER.sub(_redact_parameter, _USER.sub(f"{HIDDEN}@", link, count=1))


def _redact_parameter(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={value if name.lower() in _PUBLIC_PARAMETERS else HIDDEN}"
