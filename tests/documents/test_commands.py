"""Every command in the documents is run, in the order of its page, and prints what is said."""

from __future__ import annotations

import doctest
import subprocess

import pytest

from tests.documents.page import COMMANDS, Block, Page
from tests.documents.pages import OWN_TESTS, PAGES
from tests.documents.workspace import Workspace

AS_PRINTED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks_to_run(page: Page, *languages: str) -> list[Block]:
    return [] if page.excused else [b for b in page.of(*languages) if not b.excused]


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if blocks_to_run(page, *COMMANDS, "python")]
)
def test_the_commands_of(name: str, workspace: Workspace) -> None:
    page = PAGES[name]
    workspace.begin(page.begins_with)
    for block in blocks_to_run(page, *COMMANDS):
        where = f"{name}:{block.line}"
        done = workspace.run(block.text)
        assert done.returncode == block.exit_code, f"{where}\n{_transcript(block, done)}"
        if block.printed is not None:
            printed = done.stderr if block.exit_code else done.stdout
            as_said = doctest.OutputChecker().check_output(block.printed, printed, AS_PRINTED)
            assert as_said, f"{where} prints something else\n{_transcript(block, done)}"
    if program := blocks_to_run(page, "python"):
        done = workspace.run_python(program)
        assert done.returncode == 0, f"{name}: its Python\n{done.stderr}"


def test_every_block_is_run_or_says_why_not() -> None:
    """By the test above; by a test of its own; or there is a reason that helps a reader."""
    for name, page in PAGES.items():
        for block in page.of(*COMMANDS, "python"):
            where = f"{name}:{block.line}"
            if {"run", "test"} & block.marks.keys():
                assert name in OWN_TESTS, f"{where}: no test of its own is known for this page"
            elif block.excused is not None:
                assert len(block.excused.split()) >= 2, f"{where}: what is the reason?"


def test_no_command_stands_outside_of_the_blocks_that_are_run() -> None:
    hidden = [
        f"{name}:{line}: {text}"
        for name, page in PAGES.items()
        for line, text in page.hidden_commands()
    ]
    assert not hidden, "make these blocks of ```sh:\n" + "\n".join(hidden)


def _transcript(block: Block, done: subprocess.CompletedProcess[str]) -> str:
    said = f"{block.text}\n{done.stdout}\n{done.stderr}\nexit code {done.returncode}"
    return said if block.printed is None else f"{said}\n\nexpected:\n{block.printed}"
