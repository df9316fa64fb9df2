"""Who may ask: only a page that knows the token, of this machine, by reading."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Passes on requests under `/TOKEN`, and adds headers to what is answered.

    The Host header is checked, as another site's name may be made to lead to this machine.

    Args:
        app: What answers; it sees paths without the token.
        token: That the path has to begin with.
        port: That is listened on.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self._token = token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if Headers(scope=scope).get("host") not in self._hosts:
            refusal = PlainTextResponse("Ask for 127.0.0.1.", 421)
        elif not hmac.compare_digest(first.encode(), self._token):
            refusal = PlainTextResponse("There is nothing here.", 404)
        elif scope["method"] not in ("GET", "HEAD"):
            refusal = PlainTextResponse("This can only be read.", 405, {"allow": "GET, HEAD"})
        else:
            inner = {**scope, "path": f"/{rest}", "root_path": ""}
            await self.app(inner, receive, answer)
            return
        await refusal(scope, receive, answer)
