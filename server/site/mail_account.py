"""The page of a project's own account at Resend. Key and webhook secret come in here and are never shown again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import email_accounts, ledger, projects
from db.email_accounts import SEALED, Secret
from db.errors import not_found
from db.principal import Principal
from server.http.resend_webhooks import PATH as WEBHOOKS
from server.mail.carrier import DeferredError, RefusedError
from server.settings.mail import is_webhook_secret
from server.site.pages import Site, see
from tools import roles
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection
    from server.mail.post import Post

TAB: Final = "/email"
PATH: Final = "/projects/{project_id:uuid}" + TAB
LONGEST: Final = 512
HINT: Final = 4
LONG_ENOUGH: Final = 16
"""Of shorter secrets not even the end is shown."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why nothing was saved. ``at``: the field of the form."""

    at: str
    said: str


@dataclass(frozen=True, slots=True)
class Entered:
    """What a form asks for. Empty: stays as it is. ``domains``: where the account may send from."""

    key: str
    sender: Mailbox
    webhook_secret: str
    domains: tuple[str, ...] = ()


def routes(site: Site, post: Post) -> list[BaseRoute]:
    pages = _Pages(site, post)
    return [
        site.signed_in(PATH, pages.show),
        site.signed_in(PATH, pages.save, "POST"),
        site.signed_in(f"{PATH}/delete", pages.delete, "POST"),
    ]


class _Pages:
    def __init__(self, site: Site, post: Post) -> None:
        self._site = site
        self._database = site.services.database
        self._limits = site.services.dispatch.services.limits
        self._post = post

    async def show(self, request: Request, person: Principal) -> Response:
        return await self._page(request, person)

    async def save(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        project_id: UUID = request.path_params["project_id"]
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            await roles.administered(connection, project_id)
            kept = await email_accounts.sealed_key(connection)
        entered = _entered(form, has_key=kept is not None)
        if isinstance(entered, Entered):
            key = entered.key or self._opened(project_id, kept)
            async with self._limits.in_project(person, project_id):
                entered = await self._checked(entered, key)
        if isinstance(entered, Fault):
            return await self._page(request, person, form, entered)
        async with self._database.transaction(person, project_id) as connection:
            # Asked again: the answer of the provider takes seconds, in which a role can be taken away.
            await roles.administered(connection, project_id)
            await self._put(connection, person, project_id, entered)
        return see(f"/projects/{project_id}{TAB}")

    async def delete(self, request: Request, person: Principal) -> Response:
        await self._site.form(request, person)
        project_id: UUID = request.path_params["project_id"]
        async with self._database.transaction(person, project_id) as connection:
            await roles.administered(connection, project_id)
            if await email_accounts.delete(connection, project_id):
                await ledger.audit(connection, person, project_id, "delete_email_account", None)
        return see(f"/projects/{project_id}{TAB}")

    async def _checked(self, entered: Entered, key: str) -> Entered | Fault:
        """With the domains that Resend says are the account's."""
        try:
            domains = tuple(await self._post.account(key).domains())
        except RefusedError as error:
            if "restricted_api_key" not in str(error):
                return Fault(
                    "key", "Resend refused this key. Nothing was saved: copy it again, or make a new one there."
                )
            # A key that may only send cannot say where from; Resend refuses what it may not when it is sent.
            domains = (entered.sender.domain,)
        except DeferredError:
            return Fault("key", "Resend could not be asked about this key just now. Nothing was saved: try again.")
        if entered.sender.domain not in domains:
            listed = ", ".join(domains) or "none"
            return Fault("sender", f"This account may not send from there. Its verified domains: {listed}.")
        return Entered(entered.key, entered.sender, entered.webhook_secret, domains)

    async def _put(self, connection: Connection, person: Principal, project_id: UUID, entered: Entered) -> None:
        await email_accounts.put(connection, project_id, str(entered.sender), entered.domains)
        secrets: tuple[tuple[Secret, str], ...] = (
            ("api_key", entered.key),
            ("webhook_secret", entered.webhook_secret),
        )
        for kind, text in secrets:
            if text:
                sealed = self._post.vault.seal(project_id, SEALED, text, kind)
                hint = text[-HINT:] if len(text) >= LONG_ENOUGH else ""
                await email_accounts.put_secret(
                    connection, project_id, kind, sealed, hint=hint, created_by=person.user_id
                )
        await ledger.audit(connection, person, project_id, "enter_email_account", None)

    def _opened(self, project_id: UUID, sealed: bytes | None) -> str:
        return self._post.vault.open(project_id, SEALED, sealed, "api_key") if sealed is not None else ""

    async def _page(
        self,
        request: Request,
        person: Principal,
        said: Mapping[str, str] | None = None,
        fault: Fault | None = None,
    ) -> Response:
        project_id: UUID = request.path_params["project_id"]
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            project = await projects.fetch(connection, project_id)
            if project is None:
                raise not_found("project", "Ask whoever sent you here for a new address.")
            administered = await projects.administered(connection, project_id)
            account = await email_accounts.fetch(connection)
        values: dict[str, Any] = {
            "project": project,
            "administered": administered,
            "account": account,
            "fault": fault,
            "sender": _shown_sender(said, account),
            "house_sender": self._post.sender,
            "webhook": f"{self._site.address.base(request.scope)}{WEBHOOKS}/{project_id}",
            "tab": TAB,
            "path": f"/projects/{project_id}{TAB}",
            "longest": LONGEST,
        }
        return self._site.page(person, "mail_account.html", values, 422 if fault else 200)


def _entered(form: Mapping[str, str], *, has_key: bool) -> Entered | Fault:
    key, secret = form.get("key", "").strip(), form.get("webhook_secret", "").strip()
    if not key and not has_key:
        return Fault("key", "Enter the key: the field was empty. Nothing was saved.")
    if not _one_word(key):
        return Fault("key", "This is no key: keys are one short line of letters, digits and signs. Nothing was saved.")
    if secret and not is_webhook_secret(secret):
        return Fault("webhook_secret", "This is no signing secret: they begin with whsec_. Nothing was saved.")
    try:
        return Entered(key, Mailbox.parse(form.get("sender", "")), secret)
    except ValueError as error:
        return Fault("sender", f"The sender {error}.")


def _one_word(text: str) -> bool:
    return len(text) <= LONGEST and text.isascii() and not any(one.isspace() for one in text)


def _shown_sender(said: Mapping[str, str] | None, account: asyncpg.Record | None) -> str:
    if said is not None:
        return said.get("sender", "")
    return str(account["sender"]) if account is not None else ""
