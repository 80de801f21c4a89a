"""Browsers in which nobody is signed in yet: a signed cookie tells one from another, for as long as a link lives.

A link to sign in with opens only in the browser that asked for it, and only there can the forms before it be sent. Over
https the cookie is of this host alone, so that nobody else can plant their own.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from db.errors import AppError
from db.sign_in import LIFE
from server.http.address import PublicAddress
from server.keyring import Keyring
from server.site import cookies

COOKIE: Final = "innkeeper_sign_in"
CSRF_LABEL: Final = "sign-in-csrf"
SECONDS: Final = 2 * int(LIFE.total_seconds())
"""Whoever opens the page, takes a quarter of an hour to type and another one to find the mail is the same browser."""


class Browsers:
    def __init__(self, keyring: Keyring, address: PublicAddress) -> None:
        self._keyring = keyring
        self._signer = cookies.Signer(keyring, "sign-in")
        self._secure = address.secure
        self.cookie = f"__Host-{COOKIE}" if self._secure else COOKIE

    def known(self, request: Request) -> str | None:
        """What only this browser and we know."""
        claims = self._signer.read(request.cookies.get(self.cookie, ""))
        return None if claims is None else str(claims["jti"])

    def meet(self, request: Request) -> str:
        """The same; of a browser that comes for the first time, new. :meth:`keep` it."""
        return self.known(request) or token_urlsafe(32)

    def keep(self, response: Response, known: str) -> Response:
        value = self._signer.sign({"jti": known}, SECONDS)
        response.set_cookie(
            self.cookie, value, max_age=SECONDS, path="/", httponly=True, samesite="lax", secure=self._secure
        )
        return response

    def forget(self, response: Response) -> None:
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="lax", secure=self._secure)

    def csrf(self, known: str) -> str:
        return self._tokens(known)[0]

    def check_csrf(self, request: Request, form: Mapping[str, str]) -> str:
        """What only this browser knows. Raises ``AppError`` for a form that was shown to another one, or long ago."""
        known = self.known(request)
        given = form.get("csrf", "").encode()
        if known is None or not any(hmac.compare_digest(token.encode(), given) for token in self._tokens(known)):
            raise AppError(
                "form_outdated",
                403,
                "This form was open for too long, or is of another browser.",
                "Open the sign-in page again; this site needs its cookie.",
            )
        return known

    def _tokens(self, known: str) -> list[str]:
        keys = self._keyring.signing_keys(CSRF_LABEL)
        return [hmac.new(key, known.encode(), "sha256").hexdigest() for _id, key in keys]
