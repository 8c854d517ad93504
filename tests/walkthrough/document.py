"""The commands of `docs/nightly.md`, run as they stand there but for places, ports and times."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.servers.process import server

DOCUMENT = REPOSITORY / "docs" / "nightly.md"

_BLOCK = re.compile(r"<!-- run: ([a-z-]+)(?:, stays)? -->\n```sh\n(.*?)```\n", re.DOTALL)


def read_blocks(text: str) -> dict[str, str]:
    """Name -> commands, of each block that has a name."""
    found = _BLOCK.findall(text)
    blocks = dict(found)
    assert len(blocks) == len(found) == text.count("<!-- run:"), "a name twice, or without a block"
    return blocks


class Terminal:
    """Runs the document's blocks, each in a shell of its own, as a person would.

    Attributes:
        used: names of the blocks that were run.
    """

    def __init__(
        self, replaced: Mapping[str, str], environment: dict[str, str], logs: Path
    ) -> None:
        """Read the document.

        Args:
            replaced: what stands in the document -> what stands for it here.
            environment: of the shells; each of them runs the block `begin` first.
            logs: folder for what programs say that stay.
        """
        self.blocks = read_blocks(DOCUMENT.read_text("utf-8"))
        self.used = {"begin"}
        self._replaced, self._environment, self._logs = replaced, environment, logs
        text = "".join(self.blocks.values())
        assert [old for old in replaced if old not in text] == []

    def script(self, name: str, more: Mapping[str, str] | None = None) -> str:
        """The commands of a block, after those that each terminal begins with."""
        self.used.add(name)
        text = self.blocks["begin"] + self.blocks[name]
        for old, new in {**self._replaced, **(more or {})}.items():
            text = text.replace(old, new)
        return text

    def run(self, name: str, more: Mapping[str, str] | None = None) -> str:
        """What the commands of a block print; every one of them succeeds.

        Args:
            more: is replaced besides.
        """
        script = self.script(name, more)
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def stays(self, name: str, log: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """The process of a block's last command, until the block of this context ends."""
        before, _, last = self.script(name).rstrip().rpartition("\n")
        command = ["bash", "-euc", f"{before}\nexec {last}"]
        with server(command, self._logs / f"{log or name}.log", self._environment) as process:
            yield process
