"""Coming in and leaving: one-time links, and the end of a session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db.principal import Principal
from server.site.pages import SIGN_IN, Site, see, within
from server.site.rendering import HOME
from server.site.session import form_of


def routes(site: Site) -> list[BaseRoute]:
    async def show(request: Request, person: Principal | None) -> Response:
        next_page = within(request.query_params.get("next", ""))
        if person is None or "link" in request.query_params:
            return site.sign_in(request, next_page)
        return see(next_page)

    async def open_link(request: Request, _person: Principal | None) -> Response:
        form = await form_of(request)
        response = see(within(form.get("to", "")))
        await site.sessions.open(request, response, form.get("link", ""))
        return response

    async def leave(request: Request, person: Principal | None) -> Response:
        form = await form_of(request)
        response = see(HOME)
        if person is not None:
            site.sessions.check_csrf(person, form)
            await site.sessions.close(response, person)
        return response

    return [
        site.open(SIGN_IN, show),
        site.open(f"{SIGN_IN}/link", open_link, "POST"),
        site.open("/sign-out", leave, "POST"),
    ]
