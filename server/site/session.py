"""The session of a person on the pages: a signed cookie over a row of the database, and what protects forms.

The cookie is a JWT (RFC 7519, HS256 under a key derived from the root secret) that holds the token of the row: without
the signature the database is not even asked, without the row the signature is worth nothing, and ending the row ends
the session on every process. Its name begins with ``__Host-`` where people come over https, so that no other host and
no page below a path can set it. ``/mcp`` and the APIs take no cookie.
"""

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
from server.http.address import PublicAddress
from server.keyring import Keyring
from server.site import cookies
from server.site.returning import Returning

COOKIE: Final = "innkeeper_session"
CSRF_LABEL: Final = "site-csrf"
MAX_FORM_BYTES: Final = 64 * 1024


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(self, database: Database, keyring: Keyring, address: PublicAddress) -> None:
        self._database = database
        self._keyring = keyring
        self._signer = cookies.Signer(keyring, "site-session")
        self._secure = address.secure
        self.cookie = f"__Host-{COOKIE}" if self._secure else COOKIE
        self.returning = Returning(keyring, address)

    async def person(self, request: Request) -> Principal | None:
        claims = self._signer.read(request.cookies.get(self.cookie, ""))
        if claims is None:
            return None
        person = await sessions.find_session(self._database, str(claims.get("jti")))
        if person is None or str(person.credential_id) != claims.get("sid"):
            return None
        return person

    async def open(self, request: Request, response: Response, link: str) -> None:
        """Exchange a link for a session on ``response``. Raises ``AppError`` for a link that opens nothing."""
        token = await sessions.open_session(self._database, link)
        if token is None:
            raise AppError(
                "link_closed",
                403,
                "This link was used before or has expired.",
                "Ask for a new one: on the sign-in page, or with 'innkeeper open'.",
            )
        await self.begin(request, response, token)

    async def begin(self, request: Request, response: Response, token: str) -> None:
        """Put the new session ``token`` on ``response``, and end the one that the browser had before."""
        person = await sessions.find_session(self._database, token)
        if person is None:
            raise RuntimeError("a session that was just opened is there")
        before = await self.person(request)
        if before is not None:
            await sessions.close_session(self._database, before)
        async with self._database.transaction(person, read_only=True) as connection:
            self.returning.remember(request, response, await sessions.address(connection, person))
        claims = {"sub": str(person.user_id), "sid": str(person.credential_id), "jti": token}
        value = self._signer.sign(claims, sessions.SESSION_SECONDS)
        response.set_cookie(
            self.cookie,
            value,
            max_age=sessions.SESSION_SECONDS,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._secure,
        )

    async def close(self, response: Response, person: Principal) -> None:
        await sessions.close_session(self._database, person)
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="lax", secure=self._secure)

    def csrf(self, person: Principal, about: str = "") -> str:
        """The token that a form of this session carries; with ``about`` it is good for that form alone."""
        return self._tokens(person, about)[0]

    def check_csrf(self, person: Principal, form: Mapping[str, str], about: str = "") -> None:
        given = form.get("csrf", "").encode()
        if not any(hmac.compare_digest(token.encode(), given) for token in self._tokens(person, about)):
            raise AppError("form_outdated", 403, "This form is of another session.", "Open the page again.")

    def _tokens(self, person: Principal, about: str) -> list[str]:
        """Of each root secret: a form that was opened before a rotation can still be sent."""
        keys = self._keyring.signing_keys(CSRF_LABEL)
        said = person.credential_id.bytes + about.encode()
        return [hmac.new(key, said, "sha256").hexdigest() for _id, key in keys]


class Form(dict[str, str]):
    """The fields of a form; of one that came more than once the last value, and all of them in ``several``."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def several(self, name: str) -> list[str]:
        return [value for field, value in self._pairs if field == name]


async def form_of(request: Request, most: int = MAX_FORM_BYTES) -> Form:
    """The fields of a form posted from a page of ours. Raises ``AppError``: 403 when another origin posted it, 413 when
    it has more than ``most`` bytes.

    Other ports of this machine are the same site to a browser, so that SameSite alone would let them post here.
    """
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AppError("form_foreign", 403, "This form was sent from another page.", "Use the page of this server.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise AppError("form_expected", 415, "A form was expected here.", "Use the page of this server.")
    body = await request.body()
    if len(body) > most:
        raise AppError("form_too_large", 413, "This form is too large.", "Use the page of this server.")
    return Form(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
