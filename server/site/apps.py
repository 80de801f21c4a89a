"""The page of connected applications: what each may do, and its end at once."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import projects
from db.oauth import apps
from db.principal import Principal
from server.oauth.scopes import in_order, words
from server.site.choices import MOST_PROJECTS
from server.site.pages import Site, see

PATH: Final = "/apps"


def routes(site: Site) -> list[BaseRoute]:
    database = site.services.database

    async def show(_request: Request, person: Principal) -> Response:
        async with database.transaction(person, read_only=True) as connection:
            found = await apps.connected(connection, person.user_id)
            mine = await projects.page(connection, person.user_id, only=None, before=None, limit=MOST_PROJECTS)
        names = {row["id"]: row["name"] for row in mine}
        values = {
            "apps": found,
            "words": {scope: words(scope) for app in found for scope in in_order(app.scopes)},
            "names": names,
        }
        return site.page(person, "apps.html", values)

    async def disconnect(request: Request, person: Principal) -> Response:
        await site.form(request, person)
        app_id: UUID = request.path_params["app_id"]
        async with database.transaction(person) as connection:
            await apps.forget(connection, app_id)
        return see(PATH)

    return [
        site.signed_in(PATH, show),
        site.signed_in(f"{PATH}/{{app_id:uuid}}/disconnect", disconnect, "POST"),
    ]
