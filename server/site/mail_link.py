"""Signing in and up with an e-mail address: a form, a link that is sent there, and the button behind it.

What is answered says nothing about whether there is such an account. The link opens only in the browser that asked, and
only when its button is pressed: programs that look at links before people do would use it up.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import sign_in
from db.accounts import FIRST_EMAIL
from db.errors import AppError
from db.principal import Principal
from server.limits.newcomers import (
    GUESSES,
    SIGN_INS,
    SIGN_INS_FROM_HERE,
    SIGN_INS_OF_ACCOUNT,
    Newcomers,
    address_of,
)
from server.mail.house import sealed
from server.sign_up import may_sign_up
from server.site.pages import SIGN_IN, Site, see, within
from server.site.rendering import html
from server.site.session import form_of
from tools.mailboxes import Mailbox

PATH: Final = f"{SIGN_IN}/mail"
ELSEWHERE: Final = AppError(
    "link_elsewhere",
    403,
    "This link was asked for in another browser.",
    "Open it in the browser in which you typed your address, or ask for a new one in this one.",
)


def routes(site: Site, newcomers: Newcomers) -> list[BaseRoute]:
    page = _Page(site, newcomers)
    return [
        site.open(SIGN_IN, page.ask, "POST"),
        site.open(PATH, page.show),
        site.open(PATH, page.use, "POST"),
    ]


class _Page:
    def __init__(self, site: Site, newcomers: Newcomers) -> None:
        self._site = site
        self._newcomers = newcomers
        self._services = site.services

    async def ask(self, request: Request, _person: Principal | None) -> Response:
        form = await form_of(request)
        browser = self._site.browsers.check_csrf(request, form)
        next_page = within(form.get("next", ""))
        if self._site.way == "none":
            return self._site.sign_in(request, next_page)
        typed = form.get("email", "")
        try:
            address = _address(typed)
        except ValueError as error:
            return self._site.sign_in(request, next_page, typed=typed[:254], fault=f"That {str(error).rstrip('.')}.")
        await self._count(request, address)
        await self._send(request, address, browser, next_page)
        values = {"address": address, "way": self._site.way, "signed_in": False, "next": urlencode({"next": next_page})}
        return self._site.browsers.keep(html("link_sent.html", values), browser)

    async def show(self, request: Request, _person: Principal | None) -> Response:
        token = request.query_params.get("token", "")
        browser = self._site.browsers.known(request) or ""
        outcome, address = await sign_in.find(self._services.database, token, browser)
        if outcome != "live":
            raise await self._refused(request, token, outcome)
        values = {
            "address": address,
            "token": token,
            "csrf": self._site.browsers.csrf(browser),
            "signed_in": False,
        }
        return html("link_opened.html", values)

    async def use(self, request: Request, _person: Principal | None) -> Response:
        form = await form_of(request)
        # Without the cookie nothing would open anyway; this is what the person is told then.
        if self._site.browsers.known(request) is None:
            raise ELSEWHERE
        browser = self._site.browsers.check_csrf(request, form)
        used = await sign_in.use(self._services.database, form.get("token", ""), browser)
        if used.session is None:
            raise await self._refused(request, form.get("token", ""), used.outcome)
        response = see(within(used.next))
        await self._site.sessions.begin(request, response, used.session)
        self._site.browsers.forget(response)
        return response

    async def _send(self, request: Request, address: str, browser: str, next_page: str) -> None:
        base = self._site.address.base(request.scope)
        keyring = self._services.keyring

        def link(token: str) -> str:
            return f"{base}{PATH}?{urlencode({'token': token})}"

        asked = await sign_in.ask(
            self._services.database,
            address,
            browser=browser,
            sign_up=await may_sign_up(self._services.sign_in, self._services.database, address),
            next_page=next_page,
            sealed=(lambda token: sealed(keyring, link(token))) if self._site.way == "mail" else None,
        )
        if self._site.way == "terminal" and self._services.say_link is not None:
            self._services.say_link(address, link(asked.token) if asked.opens else None)

    async def _count(self, request: Request, address: str) -> None:
        """Also of addresses without an account: what is refused says nothing about them. Whoever has signed in in this
        browser before has a budget of their own, which no stranger's asking uses up."""
        browser = self._site.sessions.returning.known(request, address)
        if browser is not None:
            await self._newcomers.count("sign-in known", f"{browser} {address}", SIGN_INS_FROM_HERE)
            return
        here = address_of(request)
        try:
            await self._newcomers.count("sign-in here", f"{here} {address}", SIGN_INS_FROM_HERE)
            await self._newcomers.count("sign-in from", here, SIGN_INS)
            await self._newcomers.count("sign-in to", address, SIGN_INS_OF_ACCOUNT)
        except AppError:
            await sign_in.note_limit(self._services.database, address)
            raise

    async def _refused(self, request: Request, token: str, outcome: sign_in.Outcome) -> AppError:
        if outcome == "elsewhere":
            await sign_in.note_refused(self._services.database, token)
            return ELSEWHERE
        await self._newcomers.count("guess", address_of(request), GUESSES)
        return AppError(
            "link_closed", 403, "This link was used before or has expired.", "Ask for a new one on the sign-in page."
        )


def _address(typed: str) -> str:
    """In the form in which accounts are known. Raises ``ValueError`` that says what is wrong."""
    if typed.strip().lower() == FIRST_EMAIL:
        return FIRST_EMAIL
    mailbox = Mailbox.parse(typed)
    if mailbox.name:
        raise ValueError("is more than an address")
    return mailbox.key
