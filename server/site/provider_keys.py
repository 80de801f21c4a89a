"""The page of a project's keys for model providers. A key comes in here and is never shown again, to anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import ledger, projects, provider_keys
from db.errors import AppError, not_found
from db.ids import uuid7
from db.principal import Principal
from server.integrations.provider_check import PROVIDERS, ProviderChecks, Verdict
from server.site.pages import Site, see
from server.vault import Vault
from tools import roles

if TYPE_CHECKING:
    import asyncpg

TAB: Final = "/provider-keys"
PATH: Final = "/projects/{project_id:uuid}" + TAB
COMPATIBLE: Final = "compatible"
TITLES: Final[Mapping[str, str]] = {
    **{name: provider.title for name, provider in PROVIDERS.items()},
    COMPATIBLE: "OpenAI-compatible endpoint",
}
LONGEST_KEY: Final = 512
SHOWN: Final = 4
LONG_ENOUGH: Final = 16
"""Of shorter keys not even the end is kept."""
JUST_NOW: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why nothing was saved. ``at``: the field of the form; ``may_insist``: it can be saved without the check."""

    at: str
    said: str
    may_insist: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows of one visit."""

    project: asyncpg.Record
    administered: bool
    rows: list[asyncpg.Record]
    provider: str
    fault: Fault | None = None
    said: Mapping[str, str] = field(default_factory=dict)


def routes(site: Site, vault: Vault, checks: ProviderChecks) -> list[BaseRoute]:
    pages = _Pages(site, vault, checks)
    return [
        site.signed_in(PATH, pages.show),
        site.signed_in(PATH, pages.save, "POST"),
        site.signed_in(f"{PATH}/delete", pages.delete, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site, vault: Vault, checks: ProviderChecks) -> None:
        self._site = site
        self._database = site.services.database
        self._limits = site.services.dispatch.services.limits
        self._vault = vault
        self._checks = checks

    async def show(self, request: Request, person: Principal) -> Response:
        asked = request.query_params
        view = await self._view(person, _project_of(request), _known(asked.get("provider")), said=dict(asked))
        return self._page(person, view)

    async def save(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        project_id, provider, key = _project_of(request), _known(form.get("provider")), form.get("key", "").strip()
        view = await self._view(person, project_id, provider)
        if not view.administered:
            raise roles.needs_administrator()
        base_url = view.project["base_url"] if provider == COMPATIBLE else None
        fault = _fault_of(key) or _fault_of_endpoint(provider, base_url)
        if fault is None:
            async with self._limits.in_project(person, project_id):
                verdict = await self._checks.check(provider, key, base_url)
            fault = _fault_of_verdict(verdict, provider, insisted=form.get("insist") == "yes")
        else:
            verdict = Verdict.unclear
        if fault is not None:
            view = await self._view(person, project_id, provider, fault=fault)
            return self._page(person, view, 422)
        await self._put(person, project_id, provider, base_url, key, checked=verdict is Verdict.accepted)
        return _see(project_id, saved=provider)

    async def delete(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        project_id, provider = _project_of(request), _known(form.get("provider"))
        arguments = {"project_id": str(project_id), "provider": provider}
        try:
            await self._site.acts.call(person, "delete_provider_key", arguments, form, sure=True)
        except AppError as error:
            if error.code != "provider_key_not_found":
                raise
        return _see(project_id, deleted=provider)

    async def _view(self, person: Principal, project_id: UUID, provider: str, **more: Any) -> View:
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            project = await projects.fetch(connection, project_id)
            if project is None:
                raise not_found("project", "Ask whoever sent you here for a new address.")
            administered = await projects.administered(connection, project_id)
            rows = await provider_keys.latest(connection, project_id)
        return View(project, administered, rows, provider, **more)

    async def _put(
        self, person: Principal, project_id: UUID, provider: str, base_url: str | None, key: str, *, checked: bool
    ) -> None:
        key_id = uuid7()
        async with self._database.transaction(person, project_id) as connection:
            # Asked again: the answer of a provider takes seconds, in which a role can be taken away.
            await roles.administered(connection, project_id)
            await provider_keys.put(
                connection,
                project_id,
                provider,
                key_id=key_id,
                base_url=base_url,
                sealed=self._vault.seal(project_id, provider_keys.SEALED, key, provider),
                hint=key[-SHOWN:] if len(key) >= LONG_ENOUGH else "",
                created_by=person.user_id,
                checked=checked,
            )
            await ledger.audit(connection, person, project_id, "enter_provider_key", str(key_id))

    def _page(self, person: Principal, view: View, status: int = 200) -> Response:
        values = {
            "view": view,
            "titles": TITLES,
            "kept": {row["provider"]: row for row in view.rows},
            "notice": _notice(view),
            "project": view.project,
            "tab": TAB,
            "path": f"/projects/{view.project['id']}{TAB}",
            "longest": LONGEST_KEY,
        }
        return self._site.page(person, "provider_keys.html", values, status)


def _project_of(request: Request) -> UUID:
    project_id: UUID = request.path_params["project_id"]
    return project_id


def _known(provider: str | None) -> str:
    """The provider of a form or an address; the first one for what is none."""
    return provider if provider is not None and provider in TITLES else next(iter(TITLES))


def _fault_of(key: str) -> Fault | None:
    if not key:
        return Fault("key", "Enter the key: the field was empty. Nothing was saved.")
    if len(key) > LONGEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        return Fault("key", "This is no key: keys are one short line of letters, digits and signs. Nothing was saved.")
    return None


def _fault_of_endpoint(provider: str, base_url: str | None) -> Fault | None:
    if provider == COMPATIBLE and base_url is None:
        return Fault("provider", "The project has no base URL yet, so there is no endpoint that a key could be for.")
    return None


def _fault_of_verdict(verdict: Verdict, provider: str, *, insisted: bool) -> Fault | None:
    title = "The endpoint" if provider == COMPATIBLE else TITLES[provider]
    if verdict is Verdict.refused:
        return Fault("key", f"{title} refused this key. Nothing was saved: copy it again, or make a new one there.")
    if verdict is Verdict.unclear and not insisted:
        said = f"{title} could not be asked about this key, or did not say. Nothing was saved: enter it again, and"
        return Fault("key", f"{said} tick the box to save it unchecked.", may_insist=True)
    return None


def _notice(view: View) -> str:
    """What a visit that follows a form says. An address cannot make it up: a key was saved just now, or is gone."""
    saved, deleted = view.said.get("saved", ""), view.said.get("deleted", "")
    for row in view.rows:
        if row["provider"] == saved and datetime.now(UTC) - row["created_at"] < JUST_NOW:
            checked = "was accepted by the provider and" if row["checked_at"] else "could not be checked; it"
            return f"The key for {TITLES[saved]} {checked} is saved. Runs use it from now on."
    if deleted in TITLES and deleted not in {row["provider"] for row in view.rows}:
        return f"The project has no key for {TITLES[deleted]} any more."
    return ""


def _see(project_id: UUID, **said: str) -> Response:
    return see(f"/projects/{project_id}{TAB}?{urlencode(said)}")
