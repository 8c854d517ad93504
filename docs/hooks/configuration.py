"""The reference of all keys of a run's TOML file, from the specs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from segpipe.spec import (
    ClassicalOptions,
    DetectorOptions,
    Limits,
    Night,
    RCNNOptions,
    RunSpec,
    UNetOptions,
)

PAGE = "reference/configuration.md"
HEAD = """# Configuration

Made from `segpipe/spec.py`. A run is a `RunSpec`: in Python, as the TOML file that
`segpipe run --config` takes, and as the file of a nightly collection. A key that is not listed
here is refused, with the list of those that are.

```toml
model = "unet-nuclei"
chunk_images = 128
max_failed = 0.02

[options]
min_area = 40

[limits]
max_pixels = 4000000
```

What is given on the command line wins over the file.
"""

OPTIONS = {
    "`classical`": ClassicalOptions,
    "U-Nets": UNetOptions,
    "Mask R-CNN and Faster R-CNN": DetectorOptions,
    "R-CNN": RCNNOptions,
}
APART = {"cluster": "a table, see [Clusters](../clusters.md)"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """The page: a table of keys for each table of the file."""
    tables = [
        ("At the top", RunSpec),
        ("`[limits]`", Limits),
        ("`[night]`", Night),
        *((f"`[options]` of {kind}", spec) for kind, spec in OPTIONS.items()),
    ]
    return "\n\n".join([HEAD, *(_section(title, spec) for title, spec in tables)]) + "\n"


def _section(title: str, spec: type[BaseModel]) -> str:
    meanings = dict(_meanings(spec))
    fields = spec.model_json_schema()["properties"]
    rows = [
        f"| `{key}` | {_allowed(key, about)} | {_default(spec, key)} "
        f"| {meanings.get(key) or about.get('description', '')} |"
        for key, about in fields.items()
        if key != "kind"
    ]
    head = "| key | what it takes | default | |\n|---|---|---|---|\n"
    return f"## {title}\n\n{head}" + "\n".join(rows)


def _meanings(spec: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(key, meaning) from the `Attributes` of the docstrings, those of base classes included."""
    for base in reversed(spec.__mro__):
        for section in griffe.Docstring(base.__doc__ or "").parse("google"):
            if section.kind is griffe.DocstringSectionKind.attributes:
                for each in section.value:
                    for name in each.name.split(", "):
                        yield name, " ".join(each.description.split()).replace("|", "\\|")


def _allowed(key: str, about: dict[str, Any]) -> str:
    if key in APART:
        return APART[key]
    kinds = [each for each in about.get("anyOf", [about]) if each.get("type") != "null"]
    return " or ".join(_kind(each) for each in kinds)


def _kind(about: dict[str, Any]) -> str:
    if "$ref" in about or about.get("type") == "object":
        return "a table"
    if "enum" in about:
        return ", ".join(f'`"{each}"`' for each in about["enum"])
    if about.get("type") == "array":
        return "a list of texts"
    kind = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    text = kind.get(about.get("type", ""), "text")
    low = about.get("minimum", about.get("exclusiveMinimum"))
    high = about.get("maximum", about.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{text}, {low:,} to {high:,}"
    if low is not None:
        return f"{text}, {'over' if 'exclusiveMinimum' in about else 'at least'} {low:,}"
    return text


def _default(spec: type[BaseModel], key: str) -> str:
    field = spec.model_fields[key]
    if field.is_required():
        return "*required*"
    value = field.default
    if value is None or value == () or isinstance(value, dict | BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
