"""The folder that the commands of a page are run in, always in the same place.

photos/plate-1/field-1.tif ... field-6.tif      16-bit simulated fluorescence, 128 x 160
photos/plate-2/field-7.tif ... field-12.tif     the last one is truncated
truth/plate-1/field-1.tif ...                   label images of the whole ones
results/                                        a finished store of photos/, model `classical`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.demo_fields import Scene, simulate_field
from tests.documents.page import Block

N_FIELDS = 12
FIELD_SHAPE = (128, 160)
BEGINNINGS = {
    "nothing": (),
    "photos": ("photos", "truth"),
    "results": ("photos", "truth", "results"),
}
MAKE_RESULTS = "segpipe run photos/ --store results/ --model classical"

_IN_A_TERMINAL = """set -euo pipefail
[ ! -f "$STATE" ] || . "$STATE"
trap 'declare -px >"$STATE"' EXIT
"""


@dataclass
class Workspace:
    """
    Attributes:
        folder: what a page finds; made anew for each page.
        environment: of its commands.
        kept: what a page begins with, as it was made once.
    """

    folder: Path
    environment: dict[str, str]
    kept: Path

    def prepare(self) -> None:
        """Make what pages begin with. The store knows the images by their place: `folder`."""
        make_photos(self.folder)
        done = self.run(MAKE_RESULTS)
        assert done.returncode == 0, done.stderr
        self.folder.rename(self.kept)

    def begin(self, beginning: str) -> None:
        """An empty folder but for what a page begins with, and a new terminal."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._state.unlink(missing_ok=True)
        for name in BEGINNINGS[beginning]:
            shutil.copytree(self.kept / name, self.folder / name)

    def run(self, commands: str) -> subprocess.CompletedProcess[str]:
        """In a shell, as one would type them; exported variables stay for the next block."""
        return subprocess.run(
            ["bash", "-c", _IN_A_TERMINAL + commands],
            cwd=self.folder,
            env={**self.environment, "STATE": str(self._state)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run_python(self, blocks: list[Block]) -> subprocess.CompletedProcess[str]:
        """All of them as one program."""
        program = self.folder / "page.py"
        program.write_text("".join(block.text for block in blocks))
        return self.run(f"python {program.name}")

    @property
    def _state(self) -> Path:
        return self.kept.with_suffix(".state")


def make_photos(folder: Path) -> None:
    """The collection and its truth; the same bytes each time."""
    for number in range(1, N_FIELDS + 1):
        rng = np.random.default_rng(number)
        pixels, labels = simulate_field(rng, FIELD_SHAPE, 5 + number % 6, Scene(clustering=0.2))
        name = f"plate-{1 if number <= N_FIELDS // 2 else 2}/field-{number}.tif"
        for kind, image in (("photos", pixels), ("truth", labels)):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (folder / "truth" / name).unlink()
    broken = folder / "photos" / name
    broken.write_bytes(broken.read_bytes()[:2000])


def reader_environment(prefect: dict[str, str]) -> dict[str, str]:
    """Of somebody who has segpipe on the PATH, a Prefect server, and one thread for each worker."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{prefect['PATH']}"
    return {**prefect, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
