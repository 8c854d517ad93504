"""Azurite, the emulator of Azure's Blob storage, in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from urllib.parse import urlsplit

import pytest

CONTAINER = "container"
_ACCOUNT = "devstoreaccount1"
# The same in every Azurite, and published: no secret.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def azure_server() -> Iterator[str]:
    """The URL of a server with one empty container."""
    program = shutil.which(os.environ.get("SEGPIPE_AZURITE", "azurite-blob"))
    if program is None:
        pytest.skip("azurite-blob is absent (npm install -g azurite, or name it: SEGPIPE_AZURITE)")
    command = [program, "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]
    with subprocess.Popen(
        [*command, "--skipApiVersionCheck", "--silent"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            listening = next(line for line in process.stdout if "successfully listens on" in line)
            endpoint = f"{listening.split()[-1]}/{_ACCOUNT}"
            _make_container(endpoint)
            yield endpoint
        finally:
            process.kill()


def environment(endpoint: str) -> dict[str, str]:
    """Variables by which a program finds this server under `az://`."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
        "AZURE_STORAGE_ENDPOINT": endpoint,
    }


def _make_container(endpoint: str) -> None:
    """With a signature as documented: Authorize with Shared Key, of the Azure Storage REST API."""
    address = urlsplit(f"{endpoint}/{CONTAINER}")
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "PUT" + "\n" * 12
    signed += "".join(f"{name}:{value}\n" for name, value in headers.items())
    signed += f"/{_ACCOUNT}{address.path}\nrestype:container"
    mac = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(mac).decode()}"
    headers["Content-Length"] = "0"
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("PUT", f"{address.path}?restype=container", headers=headers)
        assert connection.getresponse().status == 201
