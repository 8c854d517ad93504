"""What documents say of the command line, held against the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from enum import EnumType
from typing import Any

import typer.main

from segpipe.cli.main import app
from tests.documents.page import COMMANDS, Page

PROGRAM = typer.main.get_command(app)

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_ENDS = re.compile(r"^(\||\|\||&&|;|>|>>|<|<<|&)")
_OPTION = re.compile(r"^--?[a-z][\w-]*")


def commands_of(page: Page) -> Iterator[tuple[int, str]]:
    """(line, command) of every `segpipe ...` in a block or in inline code."""
    for block in page.of(*COMMANDS):
        text = block.text.replace("\\\n", "  ")
        for number, line in enumerate(text.splitlines(), block.line + 1):
            if found := re.search(r"(?:^|[(;&|] *|worker )segpipe (.*)", line.partition(" # ")[0]):
                yield number, found[1]
    for number, code in inline_code(page):
        if code.startswith("segpipe "):
            yield number, code.removeprefix("segpipe ")


def options_of(page: Page) -> Iterator[tuple[int, str]]:
    """(line, option) of inline code that is nothing but an option, with or without a value."""
    for number, code in inline_code(page):
        if found := re.fullmatch(r"(--[a-z][a-z0-9-]*)(?:[ =].*)?", code):
            yield number, found[1]


def inline_code(page: Page) -> Iterator[tuple[int, str]]:
    """(line, code) of all inline code; it may go over the end of a line."""
    text = "\n".join(page.prose)
    for paragraph in re.finditer(r"(?:.+\n?)+", text):
        for found in _CODE.finditer(paragraph[0].replace("\n", " ")):
            number = text.count("\n", 0, paragraph.start()) + 1
            yield number, found[2].replace("\\|", "|").strip()


def problem(command: str) -> str | None:
    """What the program does not know of a command line without its first word; None if all is well.

    Words in capitals, `...` and what follows a pipe or a redirection are not looked at.
    """
    words = _words(command)
    group: Any = PROGRAM
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        names = [name for name in re.split(r"[|,]", words[0]) if name]
        if words[0] in ("...", "COMMAND"):
            return None
        unknown = [name for name in names if name not in group.commands]
        if unknown:
            return f"no command {unknown[0]!r} in {group.name}"
        group = group.commands[names[0]]
        words = words[1:]
    options = {
        name: option for option in group.params for name in (*option.opts, *option.secondary_opts)
    }
    return _unknown_option(group.name, options, words)


def _unknown_option(name: str, options: dict[str, Any], words: list[str]) -> str | None:
    for place, word in enumerate(words):
        if not (found := _OPTION.match(word)) or found[0] == "--help":
            continue
        option = options.get(found[0])
        if option is None:
            return f"{name} has no option {found[0]}"
        value = word.partition("=")[2] or "".join(words[place + 1 : place + 2])
        choices = _choices(option)
        unknown = [each for each in value.split("|") if each not in choices]
        if choices and unknown and value != value.upper():
            return f"{name} {found[0]} does not take {unknown[0]!r}"
    return None


def _choices(option: Any) -> set[str]:
    """The values that an option takes, if its type is an enumeration."""
    kind = option.type_descriptor.annotation
    return {each.value for each in kind} if isinstance(kind, EnumType) else set()


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command, comments=True)
    except ValueError:  # a quotation that ends on another line
        words = command.split()
    end = next((place for place, word in enumerate(words) if _ENDS.match(word)), len(words))
    return [word.rstrip(");.,") or word for word in words[:end]]


def known_options() -> set[str]:
    """All options of all commands."""
    found: set[str] = set()
    waiting: list[Any] = [PROGRAM]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {n for o in command.params for n in (*o.opts, *o.secondary_opts)}
    return found
