"""The session of a person on the pages: a cookie that only the pages get, and what protects forms from other pages."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from db import sessions
from db.database import Database
from db.errors import AppError
from db.principal import Principal
from server.keyring import Keyring

COOKIE: Final = "innkeeper_session"
PATH: Final = "/approvals"
"""The cookie goes to these pages alone: ``/mcp`` and the APIs never see it."""
CSRF_LABEL: Final = "site-csrf"
MAX_FORM_BYTES: Final = 16 * 1024


class Sessions:
    """Opens, finds and ends sessions. ``public_url`` with https makes the cookie Secure."""

    def __init__(self, database: Database, keyring: Keyring, public_url: str | None) -> None:
        self._database = database
        self._keyring = keyring
        self._secure = (public_url or "").startswith("https://")

    async def person(self, request: Request) -> Principal | None:
        token = request.cookies.get(COOKIE)
        return await sessions.find_session(self._database, token) if token else None

    async def open(self, response: Response, link: str) -> None:
        """Exchange a link for a session on ``response``. Raises ``AppError`` for a link that opens nothing."""
        token = await sessions.open_session(self._database, link)
        if token is None:
            raise AppError(
                "link_closed",
                403,
                "This link was used before or has expired.",
                "Run 'innkeeper open' again for a new one.",
            )
        response.set_cookie(
            COOKIE,
            token,
            max_age=sessions.SESSION_SECONDS,
            path=PATH,
            httponly=True,
            samesite="lax",
            secure=self._secure,
        )

    async def close(self, response: Response, person: Principal) -> None:
        await sessions.close_session(self._database, person)
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="lax", secure=self._secure)

    def csrf(self, person: Principal) -> str:
        """The token that every form of this session carries."""
        return self._tokens(person)[0]

    def check_csrf(self, person: Principal, form: Mapping[str, str]) -> None:
        given = form.get("csrf", "").encode()
        if not any(hmac.compare_digest(token.encode(), given) for token in self._tokens(person)):
            raise AppError("form_outdated", 403, "This form is of another session.", "Open the page again.")

    def _tokens(self, person: Principal) -> list[str]:
        """Of each root secret: a form that was opened before a rotation can still be sent."""
        keys = self._keyring.signing_keys(CSRF_LABEL)
        return [hmac.new(key, person.credential_id.bytes, "sha256").hexdigest() for _id, key in keys]


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form posted from a page of ours. Raises ``AppError`` 403 when another origin posted it.

    Other ports of this machine are the same site to a browser, so that SameSite alone would let them post here.
    """
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AppError("form_foreign", 403, "This form was sent from another page.", "Use the page of this server.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise AppError("form_expected", 415, "A form was expected here.", "Use the page of this server.")
    body = await request.body()
    if len(body) > MAX_FORM_BYTES:
        raise AppError("form_too_large", 413, "This form is too large.", "Use the page of this server.")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
