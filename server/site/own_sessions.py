"""The page of a person's sessions: where they are signed in, and the end of that."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import sessions
from db.principal import Principal
from server.site.pages import Site, see

PATH: Final = "/sessions"


def routes(site: Site) -> list[BaseRoute]:
    database = site.services.database

    async def show(_request: Request, person: Principal) -> Response:
        async with database.transaction(person, read_only=True) as connection:
            found = await sessions.live(connection)
        return site.page(person, "sessions.html", {"sessions": found, "here": person.credential_id})

    async def end(request: Request, person: Principal) -> Response:
        await site.form(request, person)
        session: UUID = request.path_params["session_id"]
        async with database.transaction(person) as connection:
            await sessions.end(connection, person, session)
        return see(PATH)

    async def end_others(request: Request, person: Principal) -> Response:
        await site.form(request, person)
        async with database.transaction(person) as connection:
            await sessions.end_others(connection, person)
        return see(PATH)

    return [
        site.signed_in(PATH, show),
        site.signed_in(f"{PATH}/{{session_id:uuid}}/end", end, "POST"),
        site.signed_in(f"{PATH}/end-others", end_others, "POST"),
    ]
