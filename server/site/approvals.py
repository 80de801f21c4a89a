"""The pages on which a person allows or forbids what tools wait for, and the one-time link that opens them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from db.database import Database
from db.errors import AppError
from db.principal import Principal
from server.keyring import Keyring
from server.site.rendering import HEADERS, html, notice, style_route
from server.site.session import PATH, Sessions, form_of
from tools.catalog import Catalog
from tools.decisions import Decisions, Shown
from tools.dispatch import Dispatch

LONGEST_VALUE: Final = 2000
NO_SESSION: Final = 401


class SiteServices(Protocol):
    """What the pages need of ``server.services.Services``."""

    @property
    def database(self) -> Database: ...

    @property
    def dispatch(self) -> Dispatch: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def public_url(self) -> str | None: ...


def routes(services: SiteServices) -> list[BaseRoute]:
    pages = _Pages(services)
    one = f"{PATH}/{{approval_id:uuid}}"
    return [
        style_route(),
        Route(PATH, _shown(pages, pages.list), methods=["GET"]),
        Route(f"{PATH}/session", _shown(pages, pages.open), methods=["POST"]),
        Route(f"{PATH}/leave", _shown(pages, pages.leave), methods=["POST"]),
        Route(one, _shown(pages, pages.one), methods=["GET"]),
        Route(one, _shown(pages, pages.decide), methods=["POST"]),
    ]


_Page = Callable[[Request, Principal | None], Awaitable[Response]]


class _Pages:
    def __init__(self, services: SiteServices) -> None:
        self.sessions = Sessions(services.database, services.keyring, services.public_url)
        self._decisions = Decisions(services.dispatch.services, services.catalog)

    async def list(self, request: Request, person: Principal | None) -> Response:
        if "link" in request.query_params:
            return _entrance(request, PATH)
        if person is None:
            return _locked("")
        found = await self._decisions.latest(person)
        waiting = [shown for shown in found if shown.state == "pending"]
        others = [shown for shown in found if shown.state != "pending"]
        return html(
            "approvals.html",
            {"waiting": waiting, "others": others, "signed_in": True, "csrf": self.sessions.csrf(person)},
        )

    async def one(self, request: Request, person: Principal | None) -> Response:
        approval_id: UUID = request.path_params["approval_id"]
        if "link" in request.query_params:
            return _entrance(request, f"{PATH}/{approval_id}")
        if person is None:
            return _locked(str(approval_id))
        shown, obstacle = await self._decisions.look_up(person, approval_id)
        values = {
            "shown": shown,
            "obstacle": obstacle,
            "arguments": _readable(shown),
            "signed_in": True,
            "csrf": self.sessions.csrf(person),
        }
        return html("approval.html", values)

    async def decide(self, request: Request, person: Principal | None) -> Response:
        approval_id: UUID = request.path_params["approval_id"]
        form = await form_of(request)
        if person is None:
            return _locked(str(approval_id))
        self.sessions.check_csrf(person, form)
        decision = form.get("decision")
        if decision not in ("allow", "deny"):
            raise AppError(
                "decision_missing", 400, "The form says neither allow nor deny.", "Press one of its buttons."
            )
        await self._decisions.decide(person, approval_id, allow=decision == "allow")
        return _see(f"{PATH}/{approval_id}")

    async def open(self, request: Request, _person: Principal | None) -> Response:
        form = await form_of(request)
        response = _see(_within(form.get("to", "")))
        await self.sessions.open(response, form.get("link", ""))
        return response

    async def leave(self, request: Request, person: Principal | None) -> Response:
        form = await form_of(request)
        response = _see(PATH)
        if person is not None:
            self.sessions.check_csrf(person, form)
            await self.sessions.close(response, person)
        return response


def _shown(pages: _Pages, page: _Page) -> Callable[[Request], Awaitable[Response]]:
    """The page as a route; what goes wrong on it is a page too."""

    async def endpoint(request: Request) -> Response:
        person = None
        try:
            person = await pages.sessions.person(request)
            return await page(request, person)
        except AppError as error:
            return notice(error, signed_in=person is not None)

    return endpoint


def _entrance(request: Request, to: str) -> Response:
    """A GET uses no link up: programs that look at links before people do would."""
    return html("entrance.html", {"link": request.query_params["link"], "to": to, "signed_in": False})


def _locked(approval_id: str) -> Response:
    return html("locked.html", {"approval_id": approval_id, "signed_in": False}, NO_SESSION)


def _see(path: str) -> Response:
    return RedirectResponse(path, status_code=303, headers=dict(HEADERS))


def _within(path: str) -> str:
    """``path`` when it is one of these pages, else the list: nobody is sent elsewhere."""
    rest = path.removeprefix(PATH + "/")
    try:
        return f"{PATH}/{UUID(rest)}"
    except ValueError:
        return PATH


def _readable(shown: Shown) -> dict[str, str]:
    """The arguments that were given, as text that a page can hold."""
    readable = {}
    for name, value in shown.arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        if value not in (None, [], {}):
            readable[name] = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
    return readable
