"""The authorization endpoint (RFC 6749 3.1): the page on which a person lets an application in, or does not.

Nothing is set, sent or remembered before the person has answered. An answer counts for the very request it was shown
with, once, for ten minutes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from db import ledger
from db.errors import AppError
from db.ids import uuid7
from db.oauth import apps, grants
from db.oauth.clients import Client
from db.oauth.grants import Asked, Consent
from db.principal import Principal
from server.limits.newcomers import address_of
from server.oauth import metadata, redirects, requests
from server.oauth.requests import AuthorizationRequest, Parameters, RequestError
from server.site import choices
from server.site.pages import Site, within
from server.site.rendering import HEADERS, html
from server.site.session import Form, form_of

MINUTES: Final = 10
_LATER: Final = "Ask again when the person wants to go on."
LOGIN_REQUIRED: Final = AppError("login_required", 400, "The person is not signed in.", _LATER)
CONSENT_REQUIRED: Final = AppError("consent_required", 400, "The person has to agree first.", _LATER)
DENIED: Final = AppError("access_denied", 400, "The person did not allow it.", _LATER)


class Clients(Protocol):
    """Who asks, by what it calls itself."""

    def find(self, client_id: str, came_from: str) -> Awaitable[Client | None]: ...


def routes(site: Site, clients: Clients) -> list[BaseRoute]:
    endpoint = _Endpoint(site, clients)
    return [
        site.open(metadata.AUTHORIZE, endpoint.ask),
        site.open(metadata.AUTHORIZE, endpoint.answer, "POST"),
    ]


_Then = Callable[[AuthorizationRequest], Awaitable[Response]]


class _Endpoint:
    def __init__(self, site: Site, clients: Clients) -> None:
        self._site = site
        self._clients = clients
        self._database = site.services.database

    async def ask(self, request: Request, person: Principal | None) -> Response:
        async def show(asked: AuthorizationRequest) -> Response:
            if person is None:
                if "none" in asked.prompts:
                    raise RequestError(asked.back, LOGIN_REQUIRED)
                return self._site.sign_in(request)
            before = await self._before(person, asked)
            if before is not None and _is_known(asked, before):
                return await self._let_in(person, asked, uuid7(), choices.asked_for(before, asked.scopes))
            if "none" in asked.prompts:
                raise RequestError(asked.back, CONSENT_REQUIRED)
            return await self._page(request, person, asked)

        return await self._checked(request, person, show)

    async def answer(self, request: Request, person: Principal | None) -> Response:
        form = await form_of(request)

        async def decide(asked: AuthorizationRequest) -> Response:
            if person is None:
                return self._site.sign_in(request, within(f"{request.url.path}?{request.url.query}"))
            request_id = _request_id(form)
            self._site.sessions.check_csrf(person, form, _about(request, request_id))
            if form.get("decision") == "deny":
                async with self._database.transaction(person) as connection:
                    await ledger.audit(connection, person, None, "oauth:denied", asked.client.client_id)
                raise RequestError(asked.back, DENIED)
            if form.get("decision") != "allow":
                raise AppError(
                    "decision_missing", 400, "The form says neither allow nor deny.", "Press one of its buttons."
                )
            before = await self._before(person, asked)
            offer = await choices.offer(self._database, person, asked.scopes, before)
            try:
                consent = choices.chosen(offer, form)
            except AppError as error:
                return await self._page(request, person, asked, form, error)
            async with self._database.transaction(person) as connection:
                await apps.remember(connection, person.user_id, asked.client.id, choices.together(before, consent))
                said = choices.effective(consent).said
                await ledger.audit(connection, person, None, "oauth:allowed", asked.client.client_id, said)
            return await self._let_in(person, asked, request_id, consent)

        return await self._checked(request, person, decide)

    async def _checked(self, request: Request, person: Principal | None, then: _Then) -> Response:
        """``then`` with the request of this address. What is wrong with it is told to the client where that is safe."""
        parameters = Parameters(request.url.query)
        client = None
        if "client_id" in parameters and "client_id" not in parameters.repeated:
            client = await self._clients.find(parameters["client_id"], address_of(request))
        if client is None:
            raise AppError(
                "client_unknown",
                400,
                "This server does not know the application that sent you here.",
                "Connect it again from the beginning, so that it registers itself.",
            )
        back = requests.returning(parameters, client, self._site.address.base(request.scope))
        try:
            asked = requests.read(parameters, client, back, self._site.address.resource(request.scope))
            return await then(asked)
        except RequestError as error:
            return await self._tell(person, client, error)

    async def _before(self, person: Principal, asked: AuthorizationRequest) -> Consent | None:
        if "consent" in asked.prompts:
            return None
        async with self._database.transaction(person, read_only=True) as connection:
            return await apps.remembered(connection, person.user_id, asked.client.id)

    async def _page(
        self,
        request: Request,
        person: Principal,
        asked: AuthorizationRequest,
        form: Form | None = None,
        error: AppError | None = None,
    ) -> Response:
        request_id = uuid7()
        before = await self._before(person, asked)
        values = {
            "client": asked.client,
            "target": redirects.target(asked.back.redirect_uri),
            "offer": await choices.offer(self._database, person, asked.scopes, before),
            "form": form,
            "error": error,
            "anew": "" if asked.prompts else f"?{request.url.query}&prompt=consent",
            "request_id": request_id,
            "csrf": self._site.sessions.csrf(person, _about(request, request_id)),
        }
        ends_at = redirects.form_target(asked.back.redirect_uri)
        return self._site.page(person, "consent.html", values, 400 if error else 200, forms_end_at=ends_at)

    async def _let_in(
        self, person: Principal, asked: AuthorizationRequest, request_id: UUID, consent: Consent
    ) -> Response:
        answered = Asked(request_id, asked.client, asked.back.redirect_uri, asked.challenge, asked.audience)
        async with self._database.transaction(person) as connection:
            code = await grants.issue_code(connection, person.user_id, answered, choices.effective(consent))
        return _leave(asked.back.address(code=code))

    async def _tell(self, person: Principal | None, client: Client, error: RequestError) -> Response:
        """Send the browser back with the error, unless that would send people wherever a stranger likes (RFC 9700
        4.11.2): then they are shown where it leads, and may go."""
        local = redirects.target(error.back.redirect_uri).kind == "loopback"
        vouched = client.kind in ("house", "registered") or error.error.code == "access_denied"
        if local or vouched or (person is not None and await self._knows(person, client)):
            return _leave(error.address)
        values = {
            "client": client,
            "error": error.error,
            "address": error.address,
            "target": redirects.target(error.back.redirect_uri),
            "signed_in": False,
        }
        return html("wrong_request.html", values, 400)

    async def _knows(self, person: Principal, client: Client) -> bool:
        async with self._database.transaction(person, read_only=True) as connection:
            return await apps.remembered(connection, person.user_id, client.id) is not None


def _is_known(asked: AuthorizationRequest, before: Consent) -> bool:
    """Whether the answer given before is the answer to this. A client that anybody may claim to be, because its name is
    public and its answers go to whatever listens on this machine, is asked about each time (RFC 8252 8.6)."""
    if asked.scopes is not None and not frozenset(asked.scopes) <= frozenset(before.scopes):
        return False
    if not choices.effective(choices.asked_for(before, asked.scopes)).scopes:
        return False
    return asked.client.kind != "document" or redirects.target(asked.back.redirect_uri).kind == "web"


def _request_id(form: Form) -> UUID:
    """Of the page that the form was on. Raises ``AppError`` for none, and for one of more than ten minutes ago."""
    try:
        found = UUID(form.get("request_id", ""))
    except ValueError:
        found = UUID(int=0)
    shown_at = datetime.fromtimestamp((found.int >> 80) / 1000, UTC)
    if not timedelta(0) <= datetime.now(UTC) - shown_at + timedelta(seconds=5) <= timedelta(minutes=MINUTES):
        raise AppError("request_outdated", 400, "This page was open for too long.", "Connect the application again.")
    return found


def _about(request: Request, request_id: UUID) -> str:
    return f"{request_id} {request.url.query}"


def _leave(address: str) -> Response:
    response = RedirectResponse(address, status_code=303, headers=dict(HEADERS))
    # RedirectResponse quotes what is quoted already in some addresses; ours has only characters an address may have.
    response.headers["location"] = address
    response.headers["referrer-policy"] = "no-referrer"
    return response
