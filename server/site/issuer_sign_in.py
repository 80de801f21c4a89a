"""Signing in and up with an issuer: the way there, and the callback at the end of the way back.

A way is bound to the browser that was sent, by its signed cookie, and to one issuer, by its state and by the address of
the callback; it is used up by whoever comes back. Nonce and verifier (RFC 7636) are made of the state, so that what is
kept of it opens nothing.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections import Counter
from secrets import token_urlsafe
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from db import identities
from db.errors import AppError
from db.identities import Flow, Vouched
from db.principal import Principal
from server.issuers.issuer import CALLBACK, Arrival, Issuer, Way, code_of
from server.issuers.keeping import sealed
from server.limits.newcomers import ARRIVALS, GUESSES, WAYS, Newcomers, address_of
from server.sign_up import may_sign_up
from server.site.pages import SIGN_IN, Site, see, within
from server.site.rendering import HEADERS
from server.vault import Vault

LABEL: Final = "sign-in-flow"
ACCOUNT: Final = "/account"
LONGEST_ANSWER: Final = 16_000
AGAIN: Final = "Sign in again, from the sign-in page and in one browser."


def routes(site: Site, newcomers: Newcomers) -> list[BaseRoute]:
    ways = Ways(site, newcomers)
    return [
        site.open(f"{SIGN_IN}/with/{{issuer}}", ways.leave),
        site.signed_in(f"{ACCOUNT}/connect/{{issuer}}", ways.connect),
        site.open(f"{CALLBACK}/{{issuer}}", ways.arrive),
    ]


class Ways:
    def __init__(self, site: Site, newcomers: Newcomers) -> None:
        self._site = site
        self._newcomers = newcomers
        self._services = site.services
        self._vault = Vault(site.services.keyring)

    async def leave(self, request: Request, person: Principal | None) -> Response:
        issuer = self._issuer(request)
        next_page = within(request.query_params.get("next", ""))
        if _is_foreign(request):
            return see(next_page) if person is not None else self._site.sign_in(request, next_page)
        return await self._leave(request, issuer, next_page)

    async def connect(self, request: Request, person: Principal) -> Response:
        issuer = self._issuer(request)
        return see(ACCOUNT) if _is_foreign(request) else await self._leave(request, issuer, ACCOUNT, person)

    async def arrive(self, request: Request, person: Principal | None) -> Response:
        issuer = self._issuer(request)
        answer = _answer(request)
        flow = await self._flow(request, issuer, answer)
        if flow.user_id is not None and (person is None or person.user_id != flow.user_id):
            raise AppError("sign_in_outdated", 403, "Nobody, or somebody else, is signed in here now.", AGAIN)
        if "error" in answer:
            raise _denied(issuer, answer["error"])
        arrival = await self._arrival(request, issuer, flow, answer)
        await self._newcomers.count("sign-in with", str(arrival.vouched.id), ARRIVALS)
        connecting = person if flow.user_id is not None else None
        if await self._lacks_token(issuer, flow, arrival):
            return await self._leave(request, issuer, flow.next, connecting, consent=True)
        if connecting is not None:
            return await self._connect(issuer, arrival, connecting)
        return await self._enter(request, issuer, flow, arrival)

    async def _leave(
        self,
        request: Request,
        issuer: Issuer,
        next_page: str,
        person: Principal | None = None,
        *,
        consent: bool = False,
    ) -> Response:
        await self._newcomers.count("way from", address_of(request), WAYS)
        browser, state = self._site.browsers.meet(request), token_urlsafe(32)
        address = await issuer.leave(self._way(request, issuer, state, consent=consent))
        database = self._services.database
        async with database.system() if person is None else database.transaction(person) as connection:
            await identities.start(
                connection,
                state,
                browser=browser,
                provider=issuer.id,
                next_page=next_page,
                consent=consent,
                connect=person is not None,
            )
        response = RedirectResponse(address, status_code=303, headers=dict(HEADERS))
        response.headers["referrer-policy"] = "no-referrer"
        return self._site.browsers.keep(response, browser)

    async def _flow(self, request: Request, issuer: Issuer, answer: dict[str, str]) -> Flow:
        """What the state stands for. Raises ``AppError`` when it is nothing, or of another browser or issuer."""
        browser = self._site.browsers.known(request)
        found = await identities.take(self._services.database, answer.get("state", ""), browser or "")
        if isinstance(found, Flow) and found.provider == issuer.id:
            return found
        await self._newcomers.count("guess", address_of(request), GUESSES)
        if found == "elsewhere":
            raise AppError("sign_in_elsewhere", 403, "This sign-in was begun in another browser.", AGAIN)
        if isinstance(found, Flow):
            raise AppError("sign_in_mixed_up", 403, f"This sign-in was not begun with {issuer.title}.", AGAIN)
        raise AppError("sign_in_outdated", 403, "This sign-in was finished before, or took too long.", AGAIN)

    async def _arrival(self, request: Request, issuer: Issuer, flow: Flow, answer: dict[str, str]) -> Arrival:
        try:
            return await issuer.arrive(self._way(request, issuer, answer["state"], consent=flow.consent), answer)
        except AppError as error:
            if not error.retryable:
                await self._newcomers.count("guess", address_of(request), GUESSES)
            raise

    async def _lacks_token(self, issuer: Issuer, flow: Flow, arrival: Arrival) -> bool:
        """Whether to send the person once more, to be asked for what lets us ask the issuer later."""
        if arrival.token is not None or flow.consent or not await issuer.keeps():
            return False
        return not await identities.is_kept(self._services.database, arrival.vouched)

    async def _enter(self, request: Request, issuer: Issuer, flow: Flow, arrival: Arrival) -> Response:
        vouched = arrival.vouched
        kept = sealed(self._vault, vouched.id, arrival.token)
        sign_up = bool(vouched.emails) and await may_sign_up(
            self._services.sign_in, self._services.database, vouched.emails[0]
        )
        outcome, session = await identities.enter(self._services.database, vouched, kept, sign_up=sign_up)
        if session is None:
            raise self._refused(issuer, vouched, outcome)
        response = see(within(flow.next))
        await self._site.sessions.begin(request, response, session)
        self._site.browsers.forget(response)
        return response

    async def _connect(self, issuer: Issuer, arrival: Arrival, person: Principal) -> Response:
        kept = sealed(self._vault, arrival.vouched.id, arrival.token)
        async with self._services.database.transaction(person) as connection:
            outcome = await identities.connect(connection, arrival.vouched, kept)
        if outcome == "connected":
            return see(ACCOUNT)
        if outcome == "unverified":
            raise AppError(
                "identity_of_another_address",
                403,
                f"That account at {issuer.title} does not have the address of your account here.",
                f"Add the address to it and confirm it there, or connect another account at {issuer.title}.",
            )
        raise self._refused(issuer, arrival.vouched, outcome)

    def _refused(self, issuer: Issuer, vouched: Vouched, outcome: str) -> AppError:
        if outcome == "unverified":
            return AppError(
                "email_unverified",
                403,
                f"{issuer.title} has not confirmed an e-mail address of yours that counts here.",
                f"Confirm your address at {issuer.title} and sign in again, or sign in another way.",
            )
        if outcome == "disabled":
            return AppError(
                "account_disabled", 403, "Your account here is disabled.", "Ask whoever runs this server about it."
            )
        if outcome == "taken":
            return AppError(
                "identity_taken",
                409,
                f"Another account at {issuer.title} opens the account here already.",
                f"Sign in with that one, or by e-mail; under {ACCOUNT} you connect and disconnect accounts.",
            )
        return _closed(self._services.sign_in.closed_by(vouched.emails[0]), vouched.emails[0])

    def _issuer(self, request: Request) -> Issuer:
        found = self._services.issuers.get(request.path_params["issuer"])
        if found is None:
            raise AppError("issuer_unknown", 404, "Nobody signs in with that here.", "Open the sign-in page.")
        return found

    def _way(self, request: Request, issuer: Issuer, state: str, *, consent: bool) -> Way:
        key = self._services.keyring.derive(LABEL)

        def made(what: str) -> str:
            return urlsafe_b64encode(hmac.digest(key, f"{what} {state}".encode(), "sha256")).rstrip(b"=").decode()

        callback = f"{self._site.address.base(request.scope)}{CALLBACK}/{issuer.id}"
        return Way(state, made("nonce"), made("verifier"), callback, consent)


def _is_foreign(request: Request) -> bool:
    """Whether the page of somebody else sends the browser: nobody but the person begins a sign-in."""
    return request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def _answer(request: Request) -> dict[str, str]:
    """The query of the callback; a parameter that comes twice counts as none (RFC 6749 3.1)."""
    pairs = parse_qsl(request.url.query[:LONGEST_ANSWER], keep_blank_values=True)
    times = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if times[name] == 1}


def _denied(issuer: Issuer, error: str) -> AppError:
    if error == "access_denied":
        return AppError(
            "sign_in_cancelled",
            403,
            f"You did not sign in with {issuer.title}.",
            "Nothing has happened. Sign in again, or another way.",
        )
    return AppError(
        "sign_in_denied",
        502,
        f"{issuer.title} did not let you sign in ({code_of(error)}).",
        "Try again, or sign in another way. If it stays so, tell whoever runs this server.",
    )


def _closed(reason: str | None, address: str) -> AppError:
    domain = address.rpartition("@")[2]
    if reason == "domain":
        return AppError(
            "sign_up_domain",
            403,
            f"Addresses at {domain} cannot sign up here.",
            "Sign in with another address, or ask whoever runs this server.",
        )
    return AppError(
        "sign_up_closed",
        403,
        f"{address} has no account here, and nobody can sign up by themselves.",
        "Ask whoever runs this server for an account or an invitation.",
    )
