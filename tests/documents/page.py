"""A page of the documentation: its blocks of commands, and what the page says about each.

A fenced block of `sh` is commands, run in a scratch folder, in the order of the page. What stands
before it on a line of its own may change that:

    <!-- not run: REASON -->     it cannot run here
    <!-- run: NAME -->           a test of its own runs it; so does <!-- test: NAME -->
    <!-- exits: 2 -->            it is to fail, with this exit code

and what stands anywhere on a page changes it for the page:

    <!-- begins with: nothing -->     or `photos`; by default `photos` and `results`
    <!-- page not run: REASON -->     not one of its blocks can run here

A block of `text` that follows one of `sh` is what the commands print: on stdout, or on stderr where
they are to fail. As in doctest `...` stands for anything, and white space for any other. Blocks of
`python` are a program, all those of a page together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMANDS = ("sh", "bash", "console", "shell")
PROGRAMS = frozenset(
    {"segpipe", "prefect", "dask", "pip", "python", "python3", "torchrun", "docker", "kubectl"}
    | {"helm", "sudo", "apt-get", "npm", "export", "curl", "cd"}
)
"""With which commands begin; `make` apart, whose targets a test looks up."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})\s*(?P<language>[\w-]*)(?P<rest>.*)$")
_MARK = re.compile(r"^\s*<!-- (?P<what>not run|run|test|exits): (?P<value>.*?)(?:, stays)? -->\s*$")
_PAGE_MARK = re.compile(
    r"^<!-- (?P<what>begins with|page not run): (?P<value>.*) -->$", re.MULTILINE
)


@dataclass
class Block:
    """One fenced block.

    Attributes:
        line: of its first fence, from 1.
        printed: what the page says that it prints; None where it says nothing.
        marks: what was said before it: kind -> value.
    """

    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    printed: str | None = None

    @property
    def excused(self) -> str | None:
        """Why it is not run here; a test of its own is as good a reason as any."""
        return next((self.marks[k] for k in ("not run", "run", "test") if k in self.marks), None)

    @property
    def exit_code(self) -> int:
        return int(self.marks.get("exits", 0))


@dataclass
class Page:
    """One page.

    Attributes:
        prose: what is not in a block, line by line; blocks are empty lines there.
    """

    path: Path
    text: str
    blocks: list[Block]
    prose: list[str]

    @property
    def marks(self) -> dict[str, str]:
        return dict(_PAGE_MARK.findall(self.text))

    @property
    def begins_with(self) -> str:
        """`nothing`, `photos` or `results`, which includes the photos."""
        return self.marks.get("begins with", "results")

    @property
    def excused(self) -> str | None:
        return self.marks.get("page not run")

    def of(self, *languages: str) -> list[Block]:
        return [block for block in self.blocks if block.language in languages]

    def hidden_commands(self) -> Iterator[tuple[int, str]]:
        """(line, text) of commands that stand in a block of another kind, or an indented one."""
        if self.excused:
            return
        plain = {
            block.line + number: line
            for block in self.of("")
            for number, line in enumerate(block.text.splitlines(), 1)
        }
        before = ""  # an indented block may follow an empty line or a heading
        for number, line in enumerate(self.prose, 1):
            if line.startswith("    ") and (not before.strip() or before.startswith("#")):
                plain[number] = line
            else:
                before = line
        for number, line in plain.items():
            if line.split()[:1] and line.split()[0] in PROGRAMS:
                yield number, line.strip()


def read_page(path: Path) -> Page:
    """Read a page.

    Raises:
        ValueError: a block that does not end, or a mark that stands before no block.
    """
    text = path.read_text("utf-8")
    blocks: list[Block] = []
    prose: list[str] = []
    marks: dict[str, str] = {}
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if opened := _FENCE.match(line):
            block = Block(number, opened["language"], _inside(lines, opened), marks)
            is_printed = (
                block.language == "text" and blocks and not "".join(prose[blocks[-1].line :])
            )
            if is_printed and blocks[-1].language in COMMANDS:
                blocks[-1].printed = block.text
            blocks.append(block)
            prose += [""] * (1 + block.text.count("\n") + 1)
            marks = {}
        elif mark := _MARK.match(line):
            marks[mark["what"]] = mark["value"]
            prose.append("")
        else:
            if line.strip() and marks:
                raise ValueError(f"{path}:{number}: a mark stands before no block")
            prose.append(line)
    return Page(path, text, blocks, prose)


def _inside(lines: Iterator[tuple[int, str]], opened: re.Match[str]) -> str:
    """The text of a block, up to its last fence."""
    content = []
    for _, line in lines:
        if line.strip() == opened["ticks"]:
            return "".join(f"{each}\n" for each in content)
        content.append(line.removeprefix(opened["indent"]))
    raise ValueError(f"a block does not end: {opened.string}")
