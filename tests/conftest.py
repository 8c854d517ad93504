"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real annotated images (nuclei, OCT, photographs), which the repository does not hold."""
    folder = Path(os.environ.get("SEGPIPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "nuclei" / "index.csv").is_file():
        pytest.skip(f"real images are absent: {folder} (set SEGPIPE_DATA to their folder)")
    return folder
