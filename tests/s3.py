"""An S3-compatible server in a process of its own, and a proxy before it that loses and refuses.

The server is moto's. It looks whether a name is taken, and then takes it; S3 does both in one
step. So here it serves one request at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from unittest import mock

BUCKET = "bucket"
SECRET = "planted-secret"

FaultKind = Literal["412", "409", "503", "500", "403", "400", "reset", "lost reply"]
FAULTS: tuple[FaultKind, ...] = ("412", "409", "503", "reset", "lost reply")

FOR_GOOD = sys.maxsize

_CODES = {
    "412": "PreconditionFailed",
    "409": "ConditionalRequestConflict",
    "503": "SlowDown",
    "500": "InternalError",
    "403": "AccessDenied",
    "400": "ExpiredToken",
}

_SERVER = """
import threading
from moto.s3.models import s3_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

class Silent(WSGIRequestHandler):
    def log(self, *_): pass

moto = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()

def one_at_a_time(environ, start_response):
    with turn:
        if environ["REQUEST_METHOD"] == "FILL":
            bucket, key, count = environ["PATH_INFO"].strip("/").split("/")
            s3 = s3_backends["123456789012"]["aws"]
            for number in range(int(count)):
                s3.put_object(bucket, f"{key}/{number:05d}.png", b"")
            start_response("200 OK", [])
            return []
        return moto(environ, start_response)

server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Silent)
print(server.port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server with one empty bucket."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            _request(port, "PUT", f"/{BUCKET}", b"", {})
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def environment(endpoint: str) -> dict[str, str]:
    """Variables by which a program finds this server under `s3://`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def reached_at(endpoint: str) -> Iterator[None]:
    """Inside the block, `s3://` means this server."""
    with mock.patch.dict(os.environ, environment(endpoint)):
        yield


def new_address(bucket: str = f"s3://{BUCKET}") -> str:
    """Where nothing is yet."""
    return f"{bucket}/{secrets.token_hex(6)}"


def fill(endpoint: str, address: str, count: int) -> None:
    """That many empty objects, `00000.png` and so on, faster than by as many requests."""
    path = address.removeprefix("s3:/")
    _request(int(endpoint.rpartition(":")[2]), "FILL", f"{path}/{count}", b"", {})


def make_folder(endpoint: str, address: str) -> None:
    """What a console does for a new folder: an empty object whose name ends with a slash."""
    path = address.removeprefix("s3:/")
    _request(int(endpoint.rpartition(":")[2]), "PUT", f"{path}/", b"", {})


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a request.

    Attributes:
        kind: a status is answered instead of forwarding; `reset` cuts the connection instead of
            forwarding; `lost reply` forwards, and then cuts it.
        at: of which one, counted from 0 by method and name, so that repetitions count once.
        times: how often in a row.
        conditional: only conditional PUTs count; else all requests.
    """

    kind: FaultKind
    at: int
    times: int = 1
    conditional: bool = True


class Proxy:
    """Forwards requests to a server, all but those that a fault is planned for.

    Attributes:
        endpoint: its URL.
        ignores_conditions: as a server does that does not know `If-None-Match`.
        google: takes the headers of Google's XML API, and passes on those of S3 that mean the same.
        happened: how often the planned fault has struck.
    """

    def __init__(self, endpoint: str) -> None:
        self.ignores_conditions = False
        self.google = False
        self._port = int(endpoint.rpartition(":")[2])
        self._lock = threading.Lock()
        self.plan(None)
        # One class for each proxy: the server makes a handler for each connection.
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def plan(self, fault: Fault | None) -> None:
        """From now on this fault, or none; counting begins anew."""
        with self._lock:
            self._fault = fault
            self._seen: dict[str, int] = {}
            self.happened = 0

    @property
    def seen(self) -> int:
        """How many requests were counted since `plan`, repetitions once."""
        return len(self._seen)

    def answer(self, request: _Handler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if self.google:
            _translate(request)
        kind = self._strikes(request.command, request.path, "If-None-Match" in request.headers)
        if self.ignores_conditions:
            del request.headers["If-None-Match"]
        if kind in _CODES:
            text = f"<Error><Code>{_CODES[kind]}</Code><Message>Injected</Message></Error>"
            request.say(int(kind), {}, text.encode())
        elif kind == "reset":
            request.cut()
        else:
            answer = _request(
                self._port, request.command, request.path, body, dict(request.headers)
            )
            if kind == "lost reply":
                request.cut()
            else:
                request.say(*answer)

    def _strikes(self, method: str, path: str, conditional: bool) -> FaultKind | None:
        name = f"{method} {path}"
        with self._lock:
            fault = self._fault
            if fault is None or (fault.conditional and not conditional):
                return None
            self._seen[name] = self._seen.get(name, 0) + 1
            if list(self._seen).index(name) != fault.at or self._seen[name] > fault.times:
                return None
            self.happened += 1
            return fault.kind


def _translate(request: _Handler) -> None:
    """From Google's XML API to S3's: the same but for quoted slashes and the names of headers."""
    request.path = request.path.replace("%2F", "/")
    headers = request.headers
    del headers["Authorization"]
    headers["Authorization"] = "AWS key:signature"  # the server wants one and believes any
    if headers.get("x-goog-if-generation-match") == "0":  # no generation: no object
        headers["If-None-Match"] = "*"
    if source := headers.get("x-goog-copy-source"):
        headers["x-amz-copy-source"] = source
    for name in headers.keys():  # noqa: SIM118 - it is no mapping
        if name.lower().startswith("x-goog-"):
            del headers[name]


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.proxy.answer(self)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the interface's

    def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """Reset the connection, as a peer does that dies."""
        at_once = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the interface's
        """Silent."""


def _request(
    port: int, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    kept = {k: v for k, v in answer.getheaders() if k not in ("Connection", "Transfer-Encoding")}
    if method != "HEAD":
        kept.pop("Content-Length", None)
    return answer.status, kept, data
