"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import reached_at, s3_server

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real annotated images (nuclei, OCT, photographs), which the repository does not hold."""
    folder = Path(os.environ.get("SEGPIPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "nuclei" / "index.csv").is_file():
        pytest.skip(f"real images are absent: {folder} (set SEGPIPE_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3-compatible server, one for all tests; see `tests.s3`."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str) -> Iterator[str]:
    """The same, and `s3://` means it as long as the test runs."""
    with reached_at(s3_endpoint):
        yield s3_endpoint
