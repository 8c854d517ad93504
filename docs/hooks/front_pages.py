"""Pages of the site that stand at the top of the repository, where GitHub shows them."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "deploy/README.md": "deploy.md",
    "README.md": "index.md",
}
"""Path in the repository -> page of the site; links to the first lead to the second."""

_LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?\)")
_LISTED = re.compile(r"^   (?= *\S)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, with links that hold on the site."""
    top = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        if page != "index.md":
            text = as_page((top / source).read_text("utf-8"), Path(source).parent)
            files.append(File.generated(config, page, content=text))
    return files


def as_page(text: str, folder: Path) -> str:
    """A page of the site from a file in `folder`, a path in the repository.

    Python's Markdown wants four spaces before what belongs to an item of a list.
    """

    def on_site(link: re.Match[str]) -> str:
        target = (folder / link[2]).as_posix()
        place = PAGES.get(target) or target.removeprefix("docs/")
        return f"{link[1]}{place}{link[3] or ''})"

    return _LISTED.sub("    ", _LINK.sub(on_site, text))
