"""Commands, options and make's targets that documents name are there, in blocks and in the text."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.documents.command_line import commands_of, known_options, options_of, problem
from tests.documents.pages import PAGES

OF_OTHER_PROGRAMS = {"--limit", "--nthreads", "--build-arg"}
"""Options that the text names alone: of `prefect worker start`, `dask worker`, `docker build`."""


@pytest.mark.parametrize("name", PAGES)
def test_the_program_knows_the_commands_of(name: str) -> None:
    found = [(line, command, problem(command)) for line, command in commands_of(PAGES[name])]
    unknown = [f"{name}:{line}: segpipe {command}: {why}" for line, command, why in found if why]
    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize("name", PAGES)
def test_the_program_knows_the_options_of(name: str) -> None:
    known = known_options() | OF_OTHER_PROGRAMS
    unknown = [f"{name}:{line}: {o}" for line, o in options_of(PAGES[name]) if o not in known]
    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("run photos/ --store results/", None),
        ("export STORE --format png|coco --out DIR", None),
        ('query results/ "SELECT 1" --format=csv > a.csv --no-such', None),
        ("no-such results/", "no command 'no-such'"),
        ("deploy no-such", "no command 'no-such'"),
        ("run photos/ --no-such", "run has no option --no-such"),
        ("query results/ 'SELECT 1' --format xml", "query --format does not take 'xml'"),
    ],
)
def test_what_the_program_does_not_know_is_found(command: str, why: str | None) -> None:
    assert (problem(command) or "").startswith(why or "")
    assert (problem(command) is None) == (why is None)


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for name, page in PAGES.items():
        named = set(re.findall(r"(?:`|^ *)make ([\w-]+)", page.text, re.MULTILINE))
        assert named <= targets, f"{name}: make {', '.join(named - targets)}"
