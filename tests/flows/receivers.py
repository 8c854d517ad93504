"""Receivers of messages on this machine: a web hook and a mail server, both real."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

SECONDS = 60
"""For which a message is waited for before the test fails."""


@dataclass(frozen=True)
class Posted:
    """One request: where to, and what its JSON says."""

    path: str
    content: Any


@dataclass(frozen=True)
class Mail:
    """One mail as the server took it."""

    recipients: list[str]
    subject: str
    text: str


class Receiver:
    """What came, in the order in which it came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: queue.Queue[Any] = queue.Queue()

    def next(self) -> Any:
        """The next message; waits for it."""
        return self.came.get(timeout=SECONDS)


@contextmanager
def web_receiver(status: int = 200) -> Iterator[Receiver]:
    """Answers every POST with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            receiver.came.put(Posted(self.path, json.loads(self.rfile.read(length))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"ok")  # as Slack says it

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield receiver
        server.shutdown()


@contextmanager
def mail_receiver(port: int) -> Iterator[Receiver]:
    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
            content = envelope.content
            assert isinstance(content, bytes)
            mail = message_from_bytes(content)
            text = mail.get_payload(decode=True)
            assert isinstance(text, bytes)
            subject = str(mail["subject"])
            receiver.came.put(Mail(envelope.rcpt_tos, subject, text.decode()))
            return "250 OK"

    receiver = Receiver(f"127.0.0.1:{port}")
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()
