"""``/files/...``: the bytes of the local store, to whoever has a ticket: ``PUT`` what it allows, ``GET``, ``HEAD``.

Pages of every origin may use a ticket: it is all the right there is here, and no cookie is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from db.errors import AppError
from server.http.cross_origin import answer_preflight, is_preflight
from server.http.fields import fields_of
from server.http.file_download import show
from server.http.file_upload import take
from server.http.problem import send_problem
from server.integrations.local_files import LocalFiles, gone
from server.integrations.local_tickets import PATH, Claims

ROUTE: Final = f"{PATH}{{key}}"
ALLOWED: Final = (b"allow", b"GET, HEAD, PUT, OPTIONS")
OPEN: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-disposition, content-range, etag, x-request-id"),
)


class FileEdge:
    """An ASGI application for every path that begins with ``/files/``. ``allows_host``: whether a Host is ours."""

    def __init__(self, store: LocalFiles, allows_host: Callable[[str], bool]) -> None:
        self._store = store
        self._allows_host = allows_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields, method = fields_of(scope), scope["method"]
        try:
            if b"host" in fields.repeated or not self._allows_host(fields.get(b"host", b"").decode("latin-1")):
                raise AppError("host_not_allowed", 421, "Files are not served under this Host.", "Use a ticket's url.")
            if is_preflight(scope):
                await answer_preflight(scope, send, b"*")
            elif method in ("GET", "HEAD"):
                await show(self._store, self._claims(scope), scope, receive, send, OPEN)
            elif method == "PUT":
                await take(self._store, self._claims(scope), fields, receive)
                await _done(send, 201, (b"content-length", b"0"))
            elif method == "OPTIONS":
                await _done(send, 204, ALLOWED)
            else:
                raise AppError("method_not_allowed", 405, f"Files do not answer {method}.", "Use a ticket's method.")
        except AppError as error:
            await send_problem(send, error, (*OPEN, ALLOWED) if error.status == 405 else OPEN)
        except ConnectionError:
            return  # whoever sent has gone

    def _claims(self, scope: Scope) -> Claims:
        query = scope["query_string"].decode("latin-1")
        try:
            return self._store.check(scope["method"], scope["path"], query)
        except ValueError:
            raise gone() from None


async def _done(send: Send, status: int, header: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*OPEN, header]})
    await send({"type": "http.response.body", "body": b""})
