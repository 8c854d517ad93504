"""A store, the real program that serves it, and a real browser that looks at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.servers.process import SEGPIPE, server, wait_for
from tests.viewer.archive import Archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Only read it: it is shared by all tests. Make another `Archive` to write in."""
    return Archive(tmp_path_factory.mktemp("archive"))


@contextmanager
def viewing(store: Path, log: Path) -> Iterator[str]:
    """The address, with token, of `segpipe view` on a store."""
    command = [*SEGPIPE, "view", str(store), "--no-open"]
    with server(command, log, {**os.environ}) as process:
        said = wait_for(lambda: address_in(log), "segpipe view", process, log)
        yield said


def address_in(log: Path) -> str | None:
    """The address that the program printed, once it did."""
    lines = log.read_text().splitlines() if log.exists() else []
    return next((line for line in lines if line.startswith("http://127.0.0.1:")), None)


@pytest.fixture(scope="session")
def viewer_address(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the shared store is served, with the token."""
    with viewing(archive.store, tmp_path_factory.mktemp("viewer") / "log") as address:
        yield address


class Visit:
    """Pages of one person at one server; what a page complains of fails the test."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        split = urlsplit(address)
        self.context = context
        self.origin = f"{split.scheme}://{split.netloc}"
        self.complaints: list[str] = []
        self.expected: list[str] = []
        self.page = self.new_page()
        self.page.goto(address)

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on(
            "console",
            lambda said: (
                self.complaints.append(f"{said.type}: {said.text} ({said.location})")
                # A request that the page itself broke off is no fault of it.
                if said.type == "error" and "net::ERR_" not in said.text
                else None
            ),
        )
        return page

    def goto(self, path: str) -> Page:
        """Open an address of the server, `/...`."""
        self.page.goto(self.origin + path)
        return self.page

    def unexpected(self) -> list[str]:
        """Complaints without a word of `expected`: Chromium complains of a 404 that is meant."""
        return [said for said in self.complaints if not any(word in said for word in self.expected)]


@pytest.fixture
def visit(browser: Browser, viewer_address: str) -> Iterator[Visit]:
    """A fresh window at the shared server: console errors and violations of the policy fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context, viewer_address)
    yield visit
    context.close()
    assert visit.unexpected() == []
