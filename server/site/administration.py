"""The page of the instance's administrators: its accounts, and who of them may come in. To everybody else it is not
there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import administration
from db.principal import Principal
from server.site.pages import Site, see

PATH: Final = "/admin"
PAGE: Final = 50
LONGEST_SEARCH: Final = 254
AdminPage = Callable[[Request, Principal], Awaitable[Response]]


def routes(site: Site) -> list[BaseRoute]:
    database = site.services.database

    def for_admins(path: str, page: AdminPage, *methods: str) -> BaseRoute:
        async def endpoint(request: Request, person: Principal | None) -> Response:
            if person is not None:
                async with database.transaction(person, read_only=True) as connection:
                    allowed = await administration.is_admin(connection)
                if allowed:
                    return await page(request, person)
            raise HTTPException(404)

        return site.open(path, endpoint, *methods)

    async def show(request: Request, person: Principal) -> Response:
        search = request.query_params.get("q", "").strip()[:LONGEST_SEARCH].replace("\x00", "")
        before = _id(request.query_params.get("before", ""))
        async with database.transaction(person, read_only=True) as connection:
            found = await administration.page(connection, search=search, before=before, limit=PAGE + 1)
        shown = found[:PAGE]
        values = {
            "accounts": shown,
            "me": person.user_id,
            "search": search,
            "more": urlencode({"q": search, "before": str(shown[-1].id)}) if len(found) > PAGE else "",
        }
        return site.page(person, "administration.html", values)

    async def switch(request: Request, person: Principal) -> Response:
        form = await site.form(request, person)
        user_id: UUID = request.path_params["user_id"]
        async with database.transaction(person) as connection:
            await administration.switch(connection, user_id, disable=request.url.path.endswith("/disable"))
        search = form.get("q", "")[:LONGEST_SEARCH]
        return see(f"{PATH}?{urlencode({'q': search})}" if search else PATH)

    return [
        for_admins(PATH, show),
        for_admins(f"{PATH}/accounts/{{user_id:uuid}}/disable", switch, "POST"),
        for_admins(f"{PATH}/accounts/{{user_id:uuid}}/enable", switch, "POST"),
    ]


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
