"""The pages of a project's keys: which there are, a new one, which is shown once, and the end of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import keys, ledger
from db.errors import AppError, conflict, needs_member
from db.keys import LONGEST_NAME, Kind
from db.principal import Principal
from db.scopes import ALL_SCOPES
from server.oauth.scopes import in_order, words
from server.site.acts import once
from server.site.forms import Sheet
from server.site.pages import Site, see
from server.site.project_page import Place, place
from server.site.session import Form
from tools.roles import needs_administrator

TAB: Final = "/keys"
PATH: Final = "/projects/{project_id:uuid}" + TAB
KINDS: Final[Mapping[Kind, str]] = {
    "secret": "Secret key",
    "publishable": "Publishable key",
    "feed": "Registry key",
}
DAYS: Final[Mapping[str, str]] = {"30": "In 30 days", "90": "In 90 days", "365": "In a year", "": "Never"}
USUAL_DAYS: Final = "90"
LONGEST_ORIGINS: Final = 15_000
RULES: Final = {
    "name": f"Say in 1 to {LONGEST_NAME} characters what the key is for.",
    "scope": "Choose at least one thing that it may do.",
    "days": "Choose when it ends.",
}


def routes(site: Site) -> list[BaseRoute]:
    pages = _Pages(site)
    return [
        site.signed_in(PATH, pages.show),
        site.signed_in(f"{PATH}/new", pages.ask),
        site.signed_in(f"{PATH}/new", pages.create, "POST"),
        site.signed_in(f"{PATH}/{{key_id:uuid}}/revoke", pages.revoke, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._database = site.services.database

    async def show(self, request: Request, person: Principal) -> Response:
        here = await self._place(request, person)
        async with self._database.transaction(person, here.project["id"], read_only=True) as connection:
            found = await keys.of_project(connection, here.project["id"])
        values = {"keys": found, "me": person.user_id, "kinds": _kinds(here), **_common(here)}
        return self._site.page(person, "keys.html", values)

    async def ask(self, request: Request, person: Principal) -> Response:
        here = await self._place(request, person)
        kind = _kind(here, request.query_params.get("kind"))
        return self._form(person, here, kind, Sheet({"days": USUAL_DAYS}), in_order(ALL_SCOPES))

    async def create(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        here = await self._place(request, person)
        kind = _kind(here, form.get("kind"))
        texts, chosen, faults = _read(kind, form)
        if faults:
            return self._form(person, here, kind, Sheet(texts, faults), chosen)
        try:
            token = await self._create(person, here, kind, texts, chosen, form)
        except AppError as error:
            if error.status != 400:
                raise
            sheet = Sheet(texts, {"origins": f"{error.message} {error.hint or ''}".strip()})
            return self._form(person, here, kind, sheet, chosen)
        values = {"kind": kind, "name": texts["name"], "token": token, "kinds": KINDS, **_common(here)}
        return self._site.page(person, "key_made.html", values)

    async def revoke(self, request: Request, person: Principal) -> Response:
        await self._site.form(request, person)
        project_id: UUID = request.path_params["project_id"]
        async with self._database.transaction(person, project_id) as connection:
            await keys.revoke(connection, project_id, request.path_params["key_id"])
        return see(f"/projects/{project_id}{TAB}")

    async def _create(
        self, person: Principal, here: Place, kind: Kind, texts: Mapping[str, str], chosen: list[str], form: Form
    ) -> str:
        """The token. A form that is sent twice makes one key: the second answer cannot show it, and says so."""
        project_id = here.project["id"]
        asked = ledger.digest("create_key", {**texts, "kind": kind, "scopes": chosen, "project_id": project_id})
        key, days = once(form, asked), texts["days"]
        async with self._database.transaction(person, project_id) as connection:
            if await ledger.claim(connection, person, key, "create_key", asked, project_id) is not None:
                raise conflict(
                    "key_shown",
                    "This form has made its key already, and a key is shown once.",
                    "If you did not write it down, revoke it and make another one.",
                )
            _id, token = await keys.create(
                connection,
                project_id,
                kind,
                name=texts["name"],
                scopes=chosen,
                origins=texts.get("origins", "").split(),
                read_only=texts.get("read_only") == "yes",
                expires_at=datetime.now(UTC) + timedelta(days=int(days)) if days else None,
            )
            await ledger.save(connection, person, key, b"{}")
        return token

    async def _place(self, request: Request, person: Principal) -> Place:
        project_id: UUID = request.path_params["project_id"]
        return await place(self._database, person, project_id)

    def _form(self, person: Principal, here: Place, kind: Kind, sheet: Sheet, chosen: list[str]) -> Response:
        values = {
            "form": sheet,
            "kind": kind,
            "title": KINDS[kind],
            "days": DAYS,
            "chosen": chosen,
            "longest": LONGEST_NAME,
            **_common(here),
        }
        return self._site.page(person, "key_new.html", values, sheet.status)


def _common(here: Place) -> dict[str, Any]:
    scopes = {scope: words(scope) for scope in in_order(ALL_SCOPES)}
    return {"tab": TAB, "project": here.project, "role": here.role, "titles": KINDS, "words": scopes}


def _kinds(here: Place) -> list[Kind]:
    """What the person may make: keys that act for others, or for nobody, are a matter of owners and admins."""
    if here.administered:
        return list(KINDS)
    return [] if here.role == "viewer" else ["secret"]


def _kind(here: Place, asked: str | None) -> Kind:
    """Raises ``AppError`` for one that the person may not make."""
    kind = cast("Kind", asked if asked in KINDS else "secret")
    if kind not in _kinds(here):
        raise needs_member() if kind == "secret" else needs_administrator()
    return kind


def _read(kind: Kind, form: Form) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """What was typed, the scopes that were chosen, and what is wrong with them."""
    texts = {"name": form.get("name", "").strip(), "days": form.get("days", USUAL_DAYS)}
    chosen = in_order(scope for scope in form.several("scope") if scope in ALL_SCOPES) if kind == "secret" else []
    faults = {}
    if not 0 < len(texts["name"]) <= LONGEST_NAME or not texts["name"].isprintable():
        faults["name"] = RULES["name"]
    if texts["days"] not in DAYS:
        faults["days"] = RULES["days"]
    if kind == "secret":
        texts["read_only"] = "yes" if form.get("read_only") == "yes" else ""
        if not chosen:
            faults["scope"] = RULES["scope"]
    if kind == "publishable":
        texts["origins"] = form.get("origins", "")[:LONGEST_ORIGINS]
    return texts, chosen, faults
