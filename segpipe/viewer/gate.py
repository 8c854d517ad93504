"""Who is let in, and what the browser is told: every request and every answer passes here.

The server listens on 127.0.0.1 only, but every web page that the person opens meanwhile reaches it
too, and every other user of the machine. Hence, in this order: the Host header has to name this
machine (a page of elsewhere whose name was pointed at 127.0.0.1 says its own name: DNS rebinding),
requests that another site made are refused (Fetch Metadata), and each request needs the cookie that
the token in the printed address was exchanged for. What is answered may run no script but ours.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""With any port: that of a tunnel (`ssh -L`) is another one than ours."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

_CLOSED = (
    "This is segpipe view. Open the whole address that it printed, with its token;\n"
    "each start has a new one.\n"
)


class Gate:
    """The middleware around the application.

    Args:
        token: of the printed address.
        posts: paths that take POST: a question that may be too long for an address. They write
            nothing either.
    """

    def __init__(self, app: ASGIApp, token: str, posts: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._token = token.encode()
        # What the browser keeps is not what stands in an address, in its history.
        self._ticket = secrets.token_urlsafe(32)
        self._posts = posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']}: only HTTP is answered")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._answer_at_the_door(Request(scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _answer_at_the_door(self, request: Request) -> Response | None:
        """What a request gets that does not come in; None for one that does."""
        host = request.headers.get("host", "")
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            return _refused(421, f"Host {host[:80]!r} is not this server: use 127.0.0.1.\n")
        path = request.url.path
        if request.method not in SAFE_METHODS and not (
            request.method == "POST" and path in self._posts
        ):
            return _refused(405, f"{request.method} {path[:80]}: this server only reads.\n")
        if (token := request.query_params.get("token")) is not None:
            return self._exchange(request, token)
        cookie = request.cookies.get(_cookie_name(request), "")
        if not secrets.compare_digest(cookie.encode(), self._ticket.encode()):
            return _refused(403, _CLOSED)
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refused(403, "Another site made this request.\n")
        return None

    def _exchange(self, request: Request, token: str) -> Response:
        """A cookie for the token, and the same address without it."""
        if not secrets.compare_digest(token.encode(), self._token):
            return _refused(403, _CLOSED)
        rest = [pair for pair in parse_qsl(request.url.query) if pair[0] != "token"]
        # One slash: `//elsewhere` would be an address of another server.
        path = "/" + request.url.path.lstrip("/")
        answer = RedirectResponse(path + ("?" + urlencode(rest) if rest else ""), 303)
        answer.set_cookie(_cookie_name(request), self._ticket, httponly=True, samesite="strict")
        return answer


def _cookie_name(request: Request) -> str:
    """Cookies know no ports: two viewers on one machine need two names."""
    server = request.scope.get("server") or ("", 0)
    return f"segpipe-{server[1]}"


def _refused(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)
