"""The page of a project's end users: whose word is taken for who they are, and what is taken without any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import ledger, token_sources
from db.principal import Principal
from db.token_sources import Rules, TokenSource
from server.oauth.token_sources import FIELDS, Described, TokenSources
from server.site.forms import Sheet
from server.site.pages import Site, see
from server.site.project_page import Place, place
from server.site.session import Form
from tools import roles

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

PATH: Final = "/projects/{project_id:uuid}/end-users"
TAB: Final = "/end-users"
TITLES: Final = {
    "issuer": "An issuer (OpenID Connect)",
    "hs256": "A shared secret (HS256)",
    "public_key": "A public key",
    "userinfo": "A userinfo endpoint",
    "none": "Nobody: tokens are not checked",
}
UNDERSTOOD: Final = "none-understood"
MOST: Final = 20
"""Of the sources of a project: each is read with every exchange."""


def routes(site: Site, sources: TokenSources) -> list[BaseRoute]:
    pages = _Pages(site, sources)
    return [
        site.signed_in(PATH, pages.show),
        site.signed_in(f"{PATH}/sources", pages.add, "POST"),
        site.signed_in(f"{PATH}/sources/delete", pages.delete, "POST"),
        site.signed_in(f"{PATH}/rules", pages.change, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site, sources: TokenSources) -> None:
        self._site = site
        self._sources = sources
        self._database = site.services.database
        self._limits = site.services.dispatch.services.limits

    async def show(self, request: Request, person: Principal) -> Response:
        return await self._page(request, person)

    async def add(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        here = await self._administered(request, person)
        project_id, kind = here.project["id"], form.get("kind", "")
        typed = _typed(form, kind)
        async with self._limits.in_project(person, project_id):
            described = await self._sources.described(project_id, kind, typed, insist=form.get("insist") == "yes")
        if kind == "none" and form.get(UNDERSTOOD) != "yes":
            described = Described(faults={"understood": "Say that you know what this means."})
        if described.source is None:
            return await self._page(request, person, kind, typed, described)
        async with self._database.transaction(person, project_id) as connection:
            # Asked again: an issuer's answer takes seconds, in which a role can be taken away.
            await roles.administered(connection, project_id)
            said = _one_too_many(described.source, await token_sources.latest(connection, project_id))
            if said is None and not await token_sources.add(connection, project_id, described.source, person.user_id):
                said = "There is one like this already."
            if said is not None:
                refused = Described(faults={next(iter(typed), "understood"): said})
            else:
                await self._note(
                    connection, person, project_id, "token_source:added", described.source.id, described.source.kind
                )
                return see(f"/projects/{project_id}{TAB}")
        return await self._page(request, person, kind, typed, refused)

    async def delete(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        here = await self._administered(request, person)
        project_id, source_id = here.project["id"], _id(form.get("source"))
        async with self._database.transaction(person, project_id) as connection:
            if source_id is not None and await token_sources.delete(connection, project_id, source_id):
                await self._note(connection, person, project_id, "token_source:deleted", source_id)
        return see(f"/projects/{project_id}{TAB}")

    async def change(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        here = await self._administered(request, person)
        project_id = here.project["id"]
        to = Rules(form.get("anonymous_sessions") == "yes", form.get("user_keys_from_browsers") == "yes")
        async with self._database.transaction(person, project_id) as connection:
            if to != await token_sources.rules(connection, project_id):
                await token_sources.set_rules(connection, project_id, to)
                await self._note(connection, person, project_id, "end_users:rules_changed", project_id, _said(to))
        return see(f"/projects/{project_id}{TAB}")

    async def _note(
        self,
        connection: Connection,
        person: Principal,
        project_id: UUID,
        action: str,
        target: UUID,
        detail: str | None = None,
    ) -> None:
        await ledger.audit(connection, person, project_id, action, str(target), detail)

    async def _administered(self, request: Request, person: Principal) -> Place:
        here = await place(self._database, person, request.path_params["project_id"])
        if not here.administered:
            raise roles.needs_administrator()
        return here

    async def _page(
        self,
        request: Request,
        person: Principal,
        kind: str = "",
        typed: dict[str, str] | None = None,
        described: Described | None = None,
    ) -> Response:
        here = await place(self._database, person, request.path_params["project_id"])
        project_id = here.project["id"]
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            rows = await token_sources.latest(connection, project_id)
            rules = await token_sources.rules(connection, project_id)
        shown = {f"{kind}-{name}": text for name, text in (typed or {}).items() if name != "secret"}
        faults = {f"{kind}-{name}": said for name, said in described.faults.items()} if described else {}
        sheet = Sheet(shown, faults)
        values = {
            "tab": TAB,
            "project": here.project,
            "administered": here.administered,
            "sources": rows,
            "rules": rules,
            "titles": TITLES,
            "kind": kind,
            "form": sheet,
            "may_insist": described is not None and described.may_insist,
            "endpoint": f"{self._site.address.base(request.scope)}/oauth/token",
        }
        return self._site.page(person, "end_users.html", values, sheet.status)


def _typed(form: Form, kind: str) -> dict[str, str]:
    """The fields of one kind. Each kind's have names of their own on the page, on which all are."""
    names = next((fields for known, fields in FIELDS.items() if known == kind), ())
    return {name: form.get(f"{kind}-{name}", "").replace("\r\n", "\n") for name in names}


def _one_too_many(source: TokenSource, there: Sequence[asyncpg.Record]) -> str | None:
    """A token that only its issuer can read is shown to one endpoint, not to everybody's in turn."""
    if source.kind == "userinfo" and any(row["kind"] == "userinfo" for row in there):
        return "A project asks one userinfo endpoint: delete the other one first."
    return f"A project has at most {MOST} of these." if len(there) >= MOST else None


def _said(rules: Rules) -> str:
    """For the audit log."""
    visitors, named = ("yes" if one else "no" for one in (rules.anonymous_sessions, rules.user_keys_from_browsers))
    return f"visitors without a name: {visitors}, userKey from browsers: {named}"


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
