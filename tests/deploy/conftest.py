"""Programs that check files of deploy/; a test is skipped where one is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"

Checked = Callable[..., str]


@pytest.fixture(scope="session")
def checked() -> Checked:
    """Run a program in deploy/; what it says is the reason of a failure."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

    def run(package: str, program: str, *arguments: str | Path) -> str:
        found = shutil.which(program, path=places)
        if found is None:
            pytest.skip(f"{program} is not installed; {package} brings it")
        done = subprocess.run(
            [found, *map(str, arguments)], cwd=DEPLOY, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
