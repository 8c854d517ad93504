"""Weights that are downloaded on first use: checked, cached, and refused when not right."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.published import PublishedWeights, cache_folder, fetch

BODY = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """A server of one file on this machine.

    Attributes:
        announced: the length that it announces; None for none.
        sent: how much of the body it sends before it closes the connection.
        requests: the paths that were asked for.
    """

    announced: int | None = len(BODY)
    sent: int = len(BODY)
    status: int = 200
    requests: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.requests.append(self.path)
            self.send_response(behaviour.status)
            if behaviour.announced is not None:
                self.send_header("Content-Length", str(behaviour.announced))
            self.end_headers()
            with suppress(ConnectionError):  # of a client that stops reading
                self.wfile.write(BODY[: behaviour.sent])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        behaviour.url = f"http://127.0.0.1:{http.server_port}/net-{SHA256[:8]}.pth"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield behaviour
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(url: str, **changes) -> PublishedWeights:
    values = {"sha256_prefix": SHA256[:8], "max_bytes": len(BODY), **changes}
    return PublishedWeights(name="net", kind="mask_rcnn", version=1, url=url, **values)


def test_first_use_downloads_and_the_second_does_not(server: Server, cache: Path) -> None:
    wanted = weights(server.url)
    path, sha256 = fetch(wanted)
    assert path == wanted.cached
    assert path.read_bytes() == BODY
    assert sha256 == SHA256
    assert fetch(wanted) == (path, sha256)
    assert len(server.requests) == 1
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize("announced", [len(BODY), None])
def test_cut_download_leaves_nothing(server: Server, cache: Path, announced: int | None) -> None:
    server.announced, server.sent = announced, len(BODY) // 2
    with pytest.raises(SpecError, match=r"cut off|does not begin"):
        fetch(weights(server.url))
    assert not list(cache.iterdir())


def test_other_bytes_are_refused(server: Server, cache: Path) -> None:
    with pytest.raises(WeightsError, match="does not begin with 00000000"):
        fetch(weights(server.url, sha256_prefix="00000000"))
    assert not list(cache.iterdir())


def test_endless_answer_is_stopped(server: Server, cache: Path) -> None:
    with pytest.raises(SpecError, match="more than 1,000 bytes"):
        fetch(weights(server.url, max_bytes=1_000))
    assert not list(cache.iterdir())


def test_missing_file_and_missing_server_name_the_alternative(server: Server, cache: Path) -> None:
    server.status = 404
    wanted = weights(server.url)
    with pytest.raises(SpecError, match="404") as refused:
        fetch(wanted)
    assert f"put that file at {wanted.cached}" in str(refused.value)
    gone = weights("http://127.0.0.1:1/net.pth")
    with pytest.raises(SpecError, match="refused") as refused:
        fetch(gone)
    assert str(gone.cached) in str(refused.value)


def test_file_put_there_by_hand_is_used_without_a_network(cache: Path) -> None:
    wanted = weights("http://127.0.0.1:1/net.pth")
    cache.mkdir()
    wanted.cached.write_bytes(BODY)
    assert fetch(wanted) == (wanted.cached, SHA256)


def test_damaged_file_in_the_cache_is_refused(cache: Path) -> None:
    wanted = weights("http://127.0.0.1:1/net.pth")
    cache.mkdir()
    wanted.cached.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match="remove it"):
        fetch(wanted)


def test_cache_that_cannot_be_made(server: Server, cache: Path) -> None:
    cache.write_bytes(b"a file, not a folder")
    with pytest.raises(SpecError, match="cannot be downloaded"):
        fetch(weights(server.url))


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEGPIPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "segpipe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "segpipe"
