"""A page of each notebook in docs/: its text, its code, and what that printed and drew."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page and its pictures for each notebook."""
    for path in sorted(Path(config.docs_dir).glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        pictures: dict[str, bytes] = {}
        page = "\n\n".join(text for cell in cells for text in _cell(cell, path.stem, pictures))
        files.append(File.generated(config, f"{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, name, content=content))
    return files


def _cell(cell: dict[str, Any], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"````python\n{source}\n````"
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{stem}-{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode("".join(data["image/png"]))
            yield f"![]({name})"
        elif "image/svg+xml" in data:
            name = f"{stem}-{len(pictures) + 1}.svg"
            pictures[name] = "".join(data["image/svg+xml"]).encode()
            yield f"![]({name})"
        elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            yield f"````text\n{text}\n````"
