"""Lets only the user's own browser in: a token in the URL, then a cookie. ASGI middleware.

Any page in the same browser can send requests to a port of this machine. So a request needs the
cookie, which only the URL with the token gives, and a Host and an Origin that are this server's.
"""

import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: nothing from elsewhere, and nothing inline."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests that are not from the user's page.

    Args:
        app: what is guarded.
        token: the secret of the URL.
        port: the port of this server.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._cookie = f"cachesim-{port}"  # browsers send the cookies of a host to all its ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return  # nothing else is answered

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                own = {key for key, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(it for it in headers if it[0] not in own),
                ]
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let in; None: it is."""
        headers = Headers(scope=scope)
        if headers.get("host") not in self._hosts:
            return _refused("This is not the address of the dashboard.")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            return _refused("Another site may not use the dashboard.")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        # Other programs have set cookies of 127.0.0.1 too, with which http.cookies may give up.
        if not self._is_token(HTTPConnection(scope).cookies.get(self._cookie, "")):
            return _refused(
                "Open the address that `cachesim dashboard` has printed: it has a token."
            )
        return None

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._token.encode())


def _refused(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 403)
