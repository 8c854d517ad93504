"""The site is built without a warning, loads nothing from elsewhere, and no link is dead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from segpipe.errors import Reason
from tests.conftest import REPOSITORY
from tests.documents.pages import PAGES

LINK = re.compile(r"\]\(([^)\s]+)\)")


class Links(HTMLParser):
    """What a page loads, where it leads to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given.get("href", ""))
        if "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Links]) -> None:
    for path, links in pages.items():
        assert not [each for each in links.loaded if urlsplit(each).netloc], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", path.read_text("utf-8"))


def test_no_link_of_the_site_is_dead(pages: dict[Path, Links]) -> None:
    dead = []
    for path, links in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute: nobody knows where it is shown
        for each in (*links.leads, *links.loaded):
            parts = urlsplit(each)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("http", "https", "mailto"), f"{path.name}: {each}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else {""}
            known = parts.fragment in {*anchors, "", "__skip"}
            if not target.exists() or not known:
                dead.append(f"{path.name}: {each}")
    assert not dead, "\n".join(dead)


def test_no_link_of_the_files_is_dead() -> None:
    """As GitHub shows them, the files at the top included."""
    dead = []
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    texts = {name: page.text for name, page in PAGES.items()} | {"CHANGELOG.md": changelog}
    for name, text in texts.items():
        folder = (REPOSITORY / name).parent
        for each in LINK.findall(text):
            path, _, anchor = each.partition("#")
            if urlsplit(each).scheme:
                continue
            target = folder / path if path else REPOSITORY / name
            if name.startswith("docs/") and path in MADE_BY_THE_SITE:
                continue
            known = headings(target.read_text("utf-8")) if anchor and target.exists() else {""}
            if not target.exists() or anchor not in known:
                dead.append(f"{name}: {each}")
    assert not dead, "\n".join(dead)


MADE_BY_THE_SITE = {
    *("deploy.md", "contributing.md", "changelog.md", "analysis.md"),
    *("reference/commands.md", "reference/configuration.md"),
}


def headings(text: str) -> set[str]:
    """Anchors of a Markdown file, as GitHub and the site make them."""
    found = re.findall(
        r"^#+ +(.*?) *$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


def test_troubleshooting_has_every_reason_and_quotes_the_program() -> None:
    text = PAGES["docs/troubleshooting.md"].text
    table = text[: text.index("## Commands that are refused")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [reason.value for reason in Reason]
    source = "".join(p.read_text("utf-8") for p in REPOSITORY.glob("segpipe/**/*.py"))
    source += "".join(p.read_text("utf-8") for p in REPOSITORY.glob("flows/*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # a message that goes over several lines
    quoted = re.findall(r"^((?:`[^`]+`(?:, )?)+)(?: in a message)?$\n:", text, re.MULTILINE)
    messages = [each for line in quoted for each in re.findall(r"`([^`]+)`", line)]
    assert len(messages) >= 10
    assert [each for each in messages if each not in source] == []
