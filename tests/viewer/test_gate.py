"""Who is let in."""

from __future__ import annotations

import http.client
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from segpipe.cli.main import app
from segpipe.errors import SpecError
from tests.servers.process import SEGPIPE, server, wait_for
from tests.viewer.archive import Archive
from tests.viewer.conftest import Visit, address_in

Answer = tuple[int, dict[str, str], str]


def ask(address: str, method: str = "GET", path: str = "/", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text


def ticket(address: str) -> str:
    """The cookie that the token is exchanged for."""
    split = urlsplit(address)
    status, headers, _ = ask(address, path=f"/?{split.query}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    return cookie.partition(";")[0]


def test_the_token_is_exchanged_for_a_cookie_that_opens_the_door(viewer_address: str) -> None:
    cookie = ticket(viewer_address)
    assert urlsplit(viewer_address).query.removeprefix("token=") not in cookie
    status, headers, text = ask(viewer_address, Cookie=cookie)
    assert status == 200
    assert "segpipe" in text
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/assets/dom.js", "/api/images", "/none"])
def test_nobody_else_is_let_in(viewer_address: str, path: str) -> None:
    status, headers, text = ask(viewer_address, path=path, Cookie="segpipe-0=guess")
    assert status == 403
    assert "set-cookie" not in headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert len(text) < 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.:1"])
def test_a_name_that_was_pointed_here_is_refused(viewer_address: str, host: str) -> None:
    status, _, _ = ask(viewer_address, Cookie=ticket(viewer_address), Host=host)
    assert status in (400, 421)


def test_a_tunnel_may_have_another_port(viewer_address: str) -> None:
    cookie = ticket(viewer_address)
    assert ask(viewer_address, Cookie=cookie, Host="localhost:9999")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_ask_in_our_name(viewer_address: str, site: str) -> None:
    cookie = ticket(viewer_address)
    assert ask(viewer_address, Cookie=cookie, Sec_Fetch_Site=site)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(viewer_address: str, method: str) -> None:
    assert ask(viewer_address, method, Cookie=ticket(viewer_address))[0] == 405


@pytest.mark.parametrize("path", ["/assets/../gate.py", "/assets/%2e%2e/gate.py", "//elsewhere/"])
def test_no_other_file_is_served(viewer_address: str, path: str) -> None:
    assert ask(viewer_address, path=path, Cookie=ticket(viewer_address))[0] == 404


def test_the_exchange_leads_to_no_other_server(viewer_address: str) -> None:
    query = urlsplit(viewer_address).query
    status, headers, _ = ask(viewer_address, path=f"//elsewhere.example/?{query}&sort=path")
    assert (status, headers["location"]) == (303, "/elsewhere.example/?sort=path")


def test_a_browser_is_let_in_and_the_token_leaves_the_address(visit: Visit) -> None:
    assert visit.page.url == f"{visit.origin}/"
    assert visit.page.get_by_role("link", name="Compare runs").count() == 1


def test_ctrl_c_ends_it(archive: Archive, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with server([*SEGPIPE, "view", str(archive.store), "--no-open"], log, environment) as process:
        address = wait_for(lambda: address_in(log), "segpipe view", process, log)
        assert ask(address)[0] == 403
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
    assert log.read_text().strip() == address
    assert list(tmp_path.glob("segpipe-view-*")) == []


def test_a_port_that_is_taken_is_refused(archive: Archive, viewer_address: str) -> None:
    port = str(urlsplit(viewer_address).port)
    said = CliRunner().invoke(app, ["view", str(archive.store), "--no-open", "--port", port])
    assert isinstance(said.exception, SpecError)
    assert port in str(said.exception)
