"""The TOML file of a collection: written for people, with every key and what it means.

The texts are those of the docstrings of `segpipe.spec`: a key is explained in one place.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from segpipe.spec import RunSpec

WIDTH = 100

HEAD = """\
# The collection {name!r} for segpipe: what its nights, and `segpipe run --config`, are to do.
#
# A line that begins with "#key =" shows a default; take the # away and set it otherwise.
# No passwords here: the address of a store comes without them, and what it takes to log in stands
# in the environment of the worker; that of Slack, say, stands in a Prefect block.
# After a change, tell the Prefect server: `prefect deploy --all` reads this file again.
"""


def collection_toml(name: str, values: Mapping[str, Any]) -> str:
    """The file for a collection, in which `values` are set and all else is shown as it is.

    Args:
        name: of the collection, for the heading.
        values: keys of a `RunSpec`; nested tables as mappings.
    """
    lines = [HEAD.format(name=name)]
    lines += _table(RunSpec, values)
    return "\n".join(lines).rstrip() + "\n"


def explanations(model: type[BaseModel]) -> dict[str, str]:
    """Key -> what it means: from the `Attributes` of the docstring, or the field's own text."""
    texts = {
        key: field.description for key, field in model.model_fields.items() if field.description
    }
    texts_of_all = (inspect.getdoc(each) or "" for each in reversed(model.__mro__))
    section = "\n".join(text.partition("Attributes:\n")[2] for text in texts_of_all)
    for entry in re.split(r"\n(?=    \w)", section):
        keys, _, text = entry.partition(":")
        for key in keys.split(","):
            if key.strip() in model.model_fields:
                texts[key.strip()] = " ".join(text.split())
    return {key: re.sub(r"\bNone\b", "left out", text) for key, text in texts.items()}


def _table(model: type[BaseModel], values: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """The keys of a table, and below them the tables in it."""
    texts = explanations(model)
    inner = {key: kind for key in model.model_fields if (kind := _inner(model, key))}
    fields = model.model_fields.items()
    for key, field in sorted(fields, key=lambda each: not each[1].is_required()):
        if key in inner:
            continue
        yield from _comment(texts.get(key, ""))
        yield from _comment(_choices(field.annotation))
        default = field.get_default(call_default_factory=True)
        if key in values:
            yield f"{key} = {toml(values[key])}"
        elif default is None or default is PydanticUndefined:
            yield f"#{key} ="
        else:
            yield f"#{key} = {toml(default)}"
        yield ""
    for key, kind in inner.items():
        yield from _comment(texts.get(key, inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]))
        yield f"[{name}{key}]"
        yield from _table(kind, values.get(key, {}), f"{name}{key}.")


def _inner(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of a table that is a key of `model`; None for plain values."""
    kind = model.model_fields[key].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _choices(annotation: Any) -> str:
    """What a key may be, where there are few possibilities."""
    if get_origin(annotation) is not Literal:
        return ""
    return f"One of {', '.join(map(toml, get_args(annotation)))}."


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]


def toml(value: Any) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, bool | str):  # a string has the same escapes in TOML, but for one
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, BaseModel):
        return toml(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, Mapping):
        items = ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)
