"""The pages of a person's projects: which there are, and a new one."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from db import projects
from db.errors import AppError
from db.principal import Principal
from server.site.forms import Sheet, refused
from server.site.pages import Site, see
from tools.pages import from_cursor, to_cursor

PATH: Final = "/projects"
NEW: Final = f"{PATH}/new"
ROWS: Final = 25
RULES: Final = {"name": "Give it a name of 1 to 80 characters."}


def routes(site: Site) -> list[BaseRoute]:
    async def begin(_request: Request) -> Response:
        return see(PATH)

    async def show(request: Request, person: Principal) -> Response:
        before = from_cursor(request.query_params.get("before"))
        async with site.services.database.transaction(person, read_only=True) as connection:
            found = await projects.page(connection, person.user_id, only=None, before=before, limit=ROWS + 1)
        values = {
            "projects": found[:ROWS],
            "first": before is None,
            "next": to_cursor(found[ROWS - 1]["id"]) if len(found) > ROWS else None,
        }
        return site.page(person, "projects.html", values)

    async def ask(_request: Request, person: Principal) -> Response:
        return site.page(person, "project_new.html", {"form": Sheet()})

    async def create(request: Request, person: Principal) -> Response:
        form = await site.form(request, person)
        texts = {"name": form.get("name", "").strip()}
        try:
            made = await site.acts.call(person, "create_project", texts, form)
        except AppError as error:
            sheet = refused(texts, error, RULES)
            return site.page(person, "project_new.html", {"form": sheet}, sheet.status)
        return see(f"{PATH}/{made.structured['id']}")

    return [
        Route("/", begin),
        site.signed_in(PATH, show),
        site.signed_in(NEW, ask),
        site.signed_in(NEW, create, "POST"),
    ]
