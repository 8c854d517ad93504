"""Which pages there are, and which tests run those whose blocks have names."""

from __future__ import annotations

from tests.conftest import REPOSITORY
from tests.documents.page import PROGRAMS, Page, read_page

OWN_TESTS = {"docs/nightly.md": "tests/walkthrough", "docs/alarms.md": "tests/flows"}
"""Pages whose named blocks are run by tests of their own, which hold that none is left out."""

FRONT_PAGES = ("README.md", "CONTRIBUTING.md", "deploy/README.md")
"""What GitHub shows; their plain blocks are commands where they begin with a program."""

NOT_RUN_OF_README = {
    "pip install": "tests/plain_install.sh installs it",
    "segpipe train": "takes minutes; tests/integration/test_fine_tuning.py trains for a few steps",
    "segpipe run photos/ --store results/ --model mine.safetensors": "it was not trained",
}
"""Beginnings of lines, for the one page that is kept free of marks -> why they are not run."""


def all_pages() -> dict[str, Page]:
    """Path in the repository -> page, of all that readers are told to type commands by."""
    found = sorted((REPOSITORY / "docs").rglob("*.md"))
    paths = [*(REPOSITORY / name for name in FRONT_PAGES), *found]
    pages = {path.relative_to(REPOSITORY).as_posix(): read_page(path) for path in paths}
    _heed_plain_blocks(pages["README.md"])
    return pages


def _heed_plain_blocks(page: Page) -> None:
    for block in page.of(""):
        lines = block.text.splitlines(keepends=True)
        if lines[0].split()[0] in PROGRAMS:
            block.language = "sh"
            block.text = "".join(line for line in lines if not line.startswith(_NOT_RUN))


_NOT_RUN = tuple(NOT_RUN_OF_README)

PAGES = all_pages()
