"""The pages of the audit log: of a project, for its owners and admins, and of one's own acts."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import audit, members
from db.principal import Principal
from server.site.pages import Site
from tools import roles
from tools.pages import from_cursor, to_cursor

OF_PROJECT: Final = "/projects/{project_id:uuid}/audit"
OWN: Final = "/account/audit"
SHOWN: Final = 50
MOST_PEOPLE: Final = 200
"""Members that the filter offers."""


def routes(site: Site) -> list[BaseRoute]:
    database = site.services.database

    async def of_project(request: Request, person: Principal) -> Response:
        project_id: UUID = request.path_params["project_id"]
        action, by, before = _action(request), _uuid(request.query_params.get("by", "")), _before(request)
        async with database.transaction(person, project_id) as connection:
            project = await roles.overseen(connection, project_id)
            found = await audit.of_project(connection, action=action, by=by, before=before, limit=SHOWN + 1)
            people = await members.page(connection, after=None, limit=MOST_PEOPLE)
        values: dict[str, Any] = {
            "title": "Audit log",
            "project": project,
            "people": people,
            "by": by,
        }
        return _page(site, person, found, values, path=request.url.path, action=action, further={"by": by})

    async def own(request: Request, person: Principal) -> Response:
        action, before = _action(request), _before(request)
        async with database.transaction(person) as connection:
            found = await audit.of_person(connection, action=action, before=before, limit=SHOWN + 1)
        values: dict[str, Any] = {"title": "What you did", "project": None, "people": [], "by": None}
        return _page(site, person, found, values, path=OWN, action=action, further={})

    return [site.signed_in(OF_PROJECT, of_project), site.signed_in(OWN, own)]


def _page(
    site: Site,
    person: Principal,
    found: list[audit.Act],
    values: dict[str, Any],
    *,
    path: str,
    action: str | None,
    further: dict[str, Any],
) -> Response:
    older = None
    if len(found) > SHOWN:
        asked = {"act": action, **further, "before": to_cursor(found[SHOWN - 1].id)}
        older = f"{path}?{urlencode({name: value for name, value in asked.items() if value is not None})}"
    common = {
        "acts": found[:SHOWN],
        "older": older,
        "action": action or "",
        "known": sorted((*audit.KINDS, "update_project", "delete_provider_key")),
        "tab": "/audit",
        "path": path,
        "filtered": bool(action or further.get("by")),
    }
    return site.page(person, "audit.html", {**values, **common})


def _action(request: Request) -> str | None:
    return request.query_params.get("act", "").strip()[:80] or None


def _before(request: Request) -> UUID | None:
    return from_cursor(request.query_params.get("before") or None)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
