"""The pages of one project: what it is, its settings, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import model_ids, projects
from db.errors import AppError
from db.principal import Principal
from server.connect.links import installs, named
from server.site.acts import ALLOWED, ONCE
from server.site.forms import Sheet, refused
from server.site.pages import Site, see
from server.site.project_page import Place, place
from server.site.rendering import HOME
from tools.approval import ApprovalRequiredError
from tools.roles import needs_administrator

if TYPE_CHECKING:
    import asyncpg

PATH: Final = "/projects/{project_id:uuid}"
MOST_BYTES: Final = 512 * 1024
"""Of a form with 20,000 characters of instructions, percent-encoded (WHATWG URL, application/x-www-form-urlencoded)."""
RULES: Final = {
    "name": "A name has 1 to 80 characters.",
    "instructions": "Instructions have at most 20,000 characters.",
    "model": f"The id of a model: {model_ids.SUPPORTED}; at most 200 characters.",
    "base_url": "A base URL begins with https:// or http://, names no user, and leads outside.",
    "max_input_tokens": "Most input tokens: a whole number from 256 to 10,000,000, or nothing.",
    "tool_call_limit": "Most tool calls: a whole number from 0 to 1,000.",
    "approvals": "Choose when a person is asked.",
    "retention_days": "Days until unused threads are deleted: a whole number from 1 to 3,650, or nothing.",
    "registry_namespace": "A namespace has 1 to 40 lower-case letters, digits, - and _, and is not shadcn.",
}
TEXTS: Final = ("name", "instructions", "model", "base_url", "approvals", "registry_namespace")
NUMBERS: Final = ("max_input_tokens", "tool_call_limit", "retention_days")
SWITCHES: Final = ("allow_prompt_override", "registry_public")
CLEARABLE: Final = frozenset({"model", "base_url", "max_input_tokens", "retention_days"})
JUST_NOW: Final = timedelta(minutes=1)
CHANGED_MEANWHILE: Final = (
    "Somebody else has changed the settings since you opened this page. What you typed is still here: compare it with"
    " the settings as they are now, in another window, and save again."
)


def routes(site: Site) -> list[BaseRoute]:
    pages = _Pages(site)
    return [
        site.signed_in(PATH, pages.overview),
        site.signed_in(f"{PATH}/settings", pages.settings),
        site.signed_in(f"{PATH}/settings", pages.change, "POST"),
        site.signed_in(f"{PATH}/delete", pages.before_the_end),
        site.signed_in(f"{PATH}/delete", pages.end, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._database = site.services.database

    async def overview(self, request: Request, person: Principal) -> Response:
        here = await self._place(request, person)
        endpoint = f"{self._site.address.resource(request.scope)}?project={here.project['id']}"
        name = named(here.project["name"])
        values = {
            "tab": "",
            "endpoint": endpoint,
            "house": self._site.address.base(request.scope),
            "server_name": name,
            "installs": installs(endpoint, name),
            **_of(here),
        }
        return self._site.page(person, "project.html", values)

    async def settings(self, request: Request, person: Principal) -> Response:
        here = await self._place(request, person)
        return self._sheet(person, here, Sheet(_texts(here.project)), saved=_just_saved(request, here))

    async def change(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person, MOST_BYTES)
        here = await self._place(request, person)
        if not here.administered:
            raise needs_administrator()
        typed = _typed(form)
        if form.get("seen") != _seen(here.project):
            return self._sheet(person, here, Sheet(typed, refusal=CHANGED_MEANWHILE))
        changes, faults = _changes(typed, _texts(here.project))
        if faults:
            return self._sheet(person, here, Sheet(typed, faults))
        settings = f"{HOME}/{here.project['id']}/settings"
        try:
            if changes:
                arguments = {"project_id": str(here.project["id"]), **changes}
                await self._site.acts.call(person, "update_project", arguments, form)
        except ApprovalRequiredError as waiting:
            kept = {**typed, "seen": _seen(here.project), ONCE: form.get(ONCE, ""), ALLOWED: str(waiting.asked.id)}
            values = {"tab": "/settings", "preview": waiting.asked.preview, "kept": kept, **_of(here)}
            return self._site.page(person, "project_confirm.html", values)
        except AppError as error:
            return self._sheet(person, here, refused(typed, error, RULES))
        return see(f"{settings}?saved")

    async def before_the_end(self, request: Request, person: Principal) -> Response:
        return await self._end_page(person, await self._place(request, person), Sheet())

    async def end(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        here = await self._place(request, person)
        typed = {"name": form.get("name", "")}
        if typed["name"].strip() != here.project["name"].strip():
            return await self._end_page(person, here, Sheet(typed, {"name": "That is not the name of the project."}))
        arguments = {"project_id": str(here.project["id"])}
        await self._site.acts.call(person, "delete_project", arguments, form, sure=True)
        return see(HOME)

    async def _place(self, request: Request, person: Principal) -> Place:
        project_id: UUID = request.path_params["project_id"]
        return await place(self._database, person, project_id)

    def _sheet(self, person: Principal, here: Place, sheet: Sheet, *, saved: bool = False) -> Response:
        values = {"tab": "/settings", "form": sheet, "seen": _seen(here.project), "saved": saved, **_of(here)}
        return self._site.page(person, "project_settings.html", values, sheet.status)

    async def _end_page(self, person: Principal, here: Place, sheet: Sheet) -> Response:
        project_id = here.project["id"]
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            held = await projects.contents(connection, project_id)
        values = {"tab": "/delete", "form": sheet, "held": held, **_of(here)}
        return self._site.page(person, "project_delete.html", values, sheet.status)


def _just_saved(request: Request, here: Place) -> bool:
    """An address alone cannot say so."""
    return "saved" in request.query_params and datetime.now(UTC) - here.project["updated_at"] < JUST_NOW


def _of(here: Place) -> dict[str, Any]:
    return {"project": here.project, "role": here.role, "administered": here.administered}


def _seen(project: asyncpg.Record) -> str:
    """What tells one state of the settings from another."""
    return str(project["updated_at"].astimezone(UTC).isoformat())


def _texts(project: asyncpg.Record) -> dict[str, str]:
    """The settings as the form shows them."""
    shown = {**dict(project.items()), "approvals": project["approval_policy"]}
    texts = {name: "" if shown[name] is None else str(shown[name]) for name in (*TEXTS, *NUMBERS)}
    return {**texts, **{name: "yes" if shown[name] else "" for name in SWITCHES}}


def _typed(form: Mapping[str, str]) -> dict[str, str]:
    """The same of a form that was sent. Browsers send lines that end with CRLF."""
    texts = {name: form.get(name, "").replace("\r\n", "\n") for name in (*TEXTS, *NUMBERS)}
    texts |= {name: text.strip() for name, text in texts.items() if name != "instructions"}
    return {**texts, **{name: "yes" if form.get(name) == "yes" else "" for name in SWITCHES}}


def _changes(typed: Mapping[str, str], shown: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of ``update_project`` for what differs, and what is wrong with fields that cannot become any."""
    changes: dict[str, Any] = {}
    faults = {}
    for name in (name for name in typed if typed[name] != shown[name]):
        if typed[name] == "" and name in CLEARABLE:
            changes.setdefault("clear", []).append(name)
        elif name in SWITCHES:
            changes[name] = typed[name] == "yes"
        elif name in NUMBERS and not (typed[name].isascii() and typed[name].isdigit() and len(typed[name]) < 10):
            faults[name] = RULES[name]
        else:
            changes[name] = int(typed[name]) if name in NUMBERS else typed[name]
    return changes, faults
