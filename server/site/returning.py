"""Browsers in which people have signed in before (OWASP: device cookies): what strangers ask for in somebody's name
uses up nothing of what the person may ask for in a browser of theirs."""

from __future__ import annotations

from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from server.http.address import PublicAddress
from server.keyring import Keyring
from server.site import cookies

COOKIE: Final = "innkeeper_known"
SECONDS: Final = 90 * 24 * 3600
MOST: Final = 5
"""People whom a browser is known to be of."""


class Returning:
    def __init__(self, keyring: Keyring, address: PublicAddress) -> None:
        self._signer = cookies.Signer(keyring, "returning")
        self._secure = address.secure
        self.cookie = f"__Host-{COOKIE}" if self._secure else COOKIE

    def known(self, request: Request, address: str) -> str | None:
        """What the browser is called here, if somebody with ``address`` has signed in in it."""
        browser, people = self._read(request)
        return browser if _mark(browser, address) in people else None

    def remember(self, request: Request, response: Response, address: str) -> None:
        browser, people = self._read(request)
        mark = _mark(browser, address)
        who = [mark, *(one for one in people if one != mark)][:MOST]
        value = self._signer.sign({"jti": browser, "who": who}, SECONDS)
        response.set_cookie(
            self.cookie, value, max_age=SECONDS, path="/", httponly=True, samesite="lax", secure=self._secure
        )

    def _read(self, request: Request) -> tuple[str, list[str]]:
        claims = self._signer.read(request.cookies.get(self.cookie, ""))
        return (token_urlsafe(16), []) if claims is None else (str(claims["jti"]), list(claims["who"]))


def _mark(browser: str, address: str) -> str:
    """Says to nobody who it is."""
    return sha256(f"{browser} {address}".encode()).hexdigest()[:32]
