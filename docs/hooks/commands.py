"""The reference of all commands, from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from enum import EnumType
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from segpipe.cli.main import app

PAGE = "reference/commands.md"
HEAD = """# Commands

Made from the program: `segpipe COMMAND --help` says the same.

Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 done, but more images failed than
`--max-failed` allows; 130 interrupted.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """The page: a section for each command, with its arguments, options and examples."""
    program: Any = typer.main.get_command(app)
    sections = (section for each in program.commands.values() for section in _sections(each, ()))
    return "\n\n".join([HEAD, *sections]) + "\n"


def _sections(command: Any, above: tuple[str, ...]) -> Iterator[str]:
    names = (*above, command.name)
    inner = getattr(command, "commands", None)
    heading = f"{'#' * (1 + len(names))} segpipe {' '.join(names)}"
    parts = [heading, *_help(command.help or "")]
    if inner is None:
        parts.append(_parameters(command.params))
    yield "\n\n".join(part for part in parts if part)
    for each in (inner or {}).values():
        yield from _sections(each, names)


def _help(whole: str) -> Iterator[str]:
    """Paragraphs as they are; those that begin with a backspace are examples."""
    for paragraph in whole.replace("\f", "").split("\n\n"):
        text = paragraph.removeprefix("\b").strip()
        yield text if paragraph.startswith(text[:1]) else f"```sh\n{text}\n```"


def _parameters(parameters: list[Any]) -> str:
    rows = [_row(each) for each in parameters if each.name != "help"]
    return "\n".join(["| | | default |", "|---|---|---|", *rows]) if rows else ""


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
    else:
        name = ", ".join(parameter.opts)
    said = (parameter.help or "").replace("|", "\\|")
    said, _, default = said.partition("[default: ")
    default = default.rstrip("]") or _default(parameter)
    if choices := _choices(parameter):
        said += f" One of {', '.join(f'`{each}`' for each in choices)}."
    return f"| `{name}` | {said.strip()} | {default} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "*required*"
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value is None or value is False or value == () else f"`{value}`"


def _choices(parameter: Any) -> list[str]:
    kind = parameter.type_descriptor.annotation
    return [each.value for each in kind] if isinstance(kind, EnumType) else []
