"""The pages on which a person allows or forbids what tools wait for."""

from __future__ import annotations

import json
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db.errors import AppError
from db.principal import Principal
from server.site.pages import Site, see
from tools.decisions import Decisions, Shown

PATH: Final = "/approvals"
LONGEST_VALUE: Final = 2000


def routes(site: Site) -> list[BaseRoute]:
    pages = _Pages(site)
    one = f"{PATH}/{{approval_id:uuid}}"
    return [
        site.signed_in(PATH, pages.list),
        site.signed_in(one, pages.one),
        site.signed_in(one, pages.decide, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._decisions = Decisions(site.services.dispatch.services, site.services.catalog)

    async def list(self, request: Request, person: Principal) -> Response:
        found = await self._decisions.latest(person)
        waiting = [shown for shown in found if shown.state == "pending"]
        others = [shown for shown in found if shown.state != "pending"]
        return self._site.page(person, "approvals.html", {"waiting": waiting, "others": others})

    async def one(self, request: Request, person: Principal) -> Response:
        approval_id: UUID = request.path_params["approval_id"]
        shown, obstacle = await self._decisions.look_up(person, approval_id)
        values = {
            "shown": shown,
            "obstacle": obstacle,
            "arguments": _readable(shown),
        }
        return self._site.page(person, "approval.html", values)

    async def decide(self, request: Request, person: Principal) -> Response:
        approval_id: UUID = request.path_params["approval_id"]
        form = await self._site.form(request, person)
        decision = form.get("decision")
        if decision not in ("allow", "deny"):
            raise AppError(
                "decision_missing", 400, "The form says neither allow nor deny.", "Press one of its buttons."
            )
        await self._decisions.decide(person, approval_id, allow=decision == "allow")
        return see(f"{PATH}/{approval_id}")


def _readable(shown: Shown) -> dict[str, str]:
    """The arguments that were given, as text that a page can hold."""
    readable = {}
    for name, value in shown.arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        if value not in (None, [], {}):
            readable[name] = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
    return readable
