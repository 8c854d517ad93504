"""The way to object storage: addresses, credentials from the environment, and patience."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import from_url

from segpipe.buckets.errors import told
from segpipe.errors import SpecError
from segpipe.provenance.redact import redact_url

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request without a clear answer is repeated, and after which pauses.

    Attributes:
        times: repetitions after the first try.
        first, longest: pauses in seconds; each is twice as long as the one before.
    """

    times: int = 10
    first: float = 0.1
    longest: float = 15.0

    def pauses(self) -> Iterator[float]:
        """Seconds before each try, none before the first.

        They vary at random, so that workers that failed together do not come back together.
        """
        yield 0.0
        for number in range(self.times):
            pause = min(self.longest, self.first * 2**number)
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret


def check_address(address: str) -> str:
    """An address in object storage, without a slash at its end.

    Raises:
        SpecError: not such an address, or one with a secret in it.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or not parts.netloc:
        known = ", ".join(f"{scheme}://BUCKET/PREFIX" for scheme in SCHEMES)
        raise SpecError(f"{redact_url(address)}: no address of object storage; known are {known}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SpecError(
            f"{redact_url(address)}: an address is a bucket and a prefix, with %3F for ? and %23 "
            "for #; credentials are taken from the environment (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, ...)"
        )
    return address.rstrip("/")


def connect(address: str, patience: Patience) -> ObjectStore:
    """The objects below an address.

    Raises:
        SpecError: what the environment says of the storage makes no sense.
    """
    # Whoever writes http:// means it.
    endpoints = _ENDPOINTS[address.partition("://")[0]]
    plain = any(os.environ.get(name, "").startswith("http://") for name in endpoints)
    try:
        return from_url(
            address,
            client_options={"allow_http": True} if plain else {},
            retry_config={
                "max_retries": patience.times,
                "backoff": {
                    "init_backoff": timedelta(seconds=patience.first),
                    "max_backoff": timedelta(seconds=patience.longest),
                    "base": 2,
                },
            },
        )
    except (BaseError, ValueError) as error:
        raise SpecError(f"{address}: {told(error)}") from None
