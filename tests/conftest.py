"""Fixtures that several test folders share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import azure as azurite
from tests.s3 import Proxy, reached_at, s3_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).resolve().parents[1]

# How long an example takes is the machine's matter, and no property of the code.
settings.register_profile("whatever the machine", deadline=None)
settings.load_profile("whatever the machine")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real annotated images (nuclei, OCT, photographs), which the repository does not hold."""
    folder = Path(os.environ.get("SEGPIPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "nuclei" / "index.csv").is_file():
        pytest.skip(f"real images are absent: {folder} (set SEGPIPE_DATA to their folder)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file of tests: until it is closed, this process has an event loop that runs."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no browser: install the Debian package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3-compatible server, one for all tests; see `tests.s3`."""
    with s3_server() as endpoint:
        yield endpoint


_NOBODY = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}


@pytest.fixture
def google(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`gs://` means the S3-compatible server, behind a proxy that translates. For a test.

    What Google's own server would do with these requests is not shown by that.
    """
    with Proxy(s3_endpoint) as proxy:
        proxy.google = True
        monkeypatch.setenv("GOOGLE_BASE_URL", proxy.endpoint)
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(_NOBODY))
        yield proxy.endpoint


@pytest.fixture(scope="session")
def azure_endpoint() -> Iterator[str]:
    """The URL of an emulator of Azure's storage; skipped where it is not installed."""
    with azurite.azure_server() as endpoint:
        yield endpoint


@pytest.fixture
def azure(azure_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, and `az://` means it as long as the test runs."""
    for name, value in azurite.environment(azure_endpoint).items():
        monkeypatch.setenv(name, value)
    return azure_endpoint


@pytest.fixture
def s3(s3_endpoint: str) -> Iterator[str]:
    """The same, and `s3://` means it as long as the test runs."""
    with reached_at(s3_endpoint):
        yield s3_endpoint
