"""The page of a project's members: who there is, who is invited, and what an owner or admin changes about that.

Whoever presses a button here is the person that a tool would have to ask, so nobody is asked again; what may be done is
decided by the database, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import invitations, ledger, members, projects
from db.errors import AppError, not_found
from db.principal import Principal
from server.mail.invitations import PATH as OPENED_AT
from server.mail.invitations import InvitationMail
from server.site.pages import Site, see
from server.site.rendering import HOME
from server.site.session import Form
from tools import roles
from tools.mailboxes import Mailbox
from tools.pages import from_cursor, to_cursor

if TYPE_CHECKING:
    from db.database import Connection
    from db.invitations import InvitedRole, Sent
    from db.members import Role

PATH: Final = "/projects/{project_id:uuid}/members"
SHOWN: Final = 50
SAID: Final = {
    "invited": "The invitation is on its way.",
    "resent": "The invitation is on its way again; the link before opens nothing any more.",
    "revoked": "The invitation is taken back: its link opens nothing any more.",
    "changed": "The role is changed, at once.",
    "removed": "They are no member any more; their keys and runs here have ended.",
    "transferred": "The project has a new owner, and you are an admin now.",
}
"""What a visit that follows a form says."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What the page shows beside what there is. ``fault``: why nothing was done, ``at`` a field; ``link``: of an
    invitation that no mail carries, shown this once, for ``invited``."""

    said: str = ""
    fault: str = ""
    at: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    invited: str = ""


def routes(site: Site, mail: InvitationMail) -> list[BaseRoute]:
    page = _Page(site, mail)
    one = f"{PATH}/{{member_id:uuid}}"
    invitation = f"{PATH}/invitations/{{invitation_id:uuid}}"
    return [
        site.signed_in(PATH, page.show),
        site.signed_in(f"{PATH}/invite", page.invite, "POST"),
        site.signed_in(f"{PATH}/leave", page.leave, "POST"),
        site.signed_in(f"{PATH}/transfer", page.transfer, "POST"),
        site.signed_in(f"{one}/role", page.change_role, "POST"),
        site.signed_in(f"{one}/remove", page.remove, "POST"),
        site.signed_in(f"{invitation}/resend", page.resend, "POST"),
        site.signed_in(f"{invitation}/revoke", page.revoke, "POST"),
    ]


class _Page:
    def __init__(self, site: Site, mail: InvitationMail) -> None:
        self._site = site
        self._mail = mail
        self._database = site.services.database

    async def show(self, request: Request, person: Principal) -> Response:
        return await self._shown(request, person, Visit(said=SAID.get(request.query_params.get("said", ""), "")))

    async def invite(self, request: Request, person: Principal) -> Response:
        form, project_id = await self._form(request, person)
        try:
            address = _address(form.get("email", ""))
        except ValueError as error:
            visit = Visit(fault=f"That {str(error).rstrip('.')}.", at="email", typed=form)
            return await self._shown(request, person, visit, 422)
        role = _one_of(form.get("role"), ("admin", "member", "viewer"))
        try:
            async with self._database.transaction(person, project_id) as connection:
                await roles.administered(connection, project_id)
                sent = await invitations.invite(
                    *(connection, project_id, person.user_id, address, cast("InvitedRole", role)),
                    seal=self._mail.seal,
                )
                await ledger.audit(connection, person, project_id, "invite_member", str(sent.id))
        except AppError as error:
            if error.code not in ("already_member", "too_many_invitations"):
                raise
            visit = Visit(fault=error.message, at="email", typed=form)
            return await self._shown(request, person, visit, error.status)
        return await self._after_sending(request, person, sent, address, "invited")

    async def resend(self, request: Request, person: Principal) -> Response:
        _form, project_id = await self._form(request, person)
        invitation_id: UUID = request.path_params["invitation_id"]
        async with self._database.transaction(person, project_id) as connection:
            await roles.administered(connection, project_id)
            row = await invitations.fetch(connection, project_id, invitation_id)
            sent = await invitations.resend(connection, project_id, person.user_id, invitation_id, seal=self._mail.seal)
            await ledger.audit(connection, person, project_id, "resend_invitation", str(invitation_id))
        return await self._after_sending(request, person, sent, row["address"] if row else "", "resent")

    async def revoke(self, request: Request, person: Principal) -> Response:
        _form, project_id = await self._form(request, person)
        invitation_id: UUID = request.path_params["invitation_id"]
        async with self._database.transaction(person, project_id) as connection:
            await roles.administered(connection, project_id)
            if await invitations.revoke(connection, project_id, invitation_id):
                await ledger.audit(connection, person, project_id, "revoke_invitation", str(invitation_id))
        return _see(project_id, "revoked")

    async def change_role(self, request: Request, person: Principal) -> Response:
        form, project_id = await self._form(request, person)
        role = cast("Role", _one_of(form.get("role"), members.ROLES))
        async with self._database.transaction(person, project_id) as connection:
            await roles.administered(connection, project_id)
            member_id = await self._member(connection, request)
            if not await members.set_role(connection, project_id, member_id, role):
                raise roles.needs_owner()
        return _see(project_id, "changed")

    async def remove(self, request: Request, person: Principal) -> Response:
        _form, project_id = await self._form(request, person)
        async with self._database.transaction(person, project_id) as connection:
            await roles.administered(connection, project_id)
            member_id = await self._member(connection, request)
            if not await members.remove(connection, project_id, member_id):
                raise roles.needs_owner()
        return _see(project_id, "removed") if member_id != person.user_id else see(HOME)

    async def leave(self, request: Request, person: Principal) -> Response:
        _form, project_id = await self._form(request, person)
        async with self._database.transaction(person, project_id) as connection:
            await roles.readable(connection, project_id)
            if not await members.remove(connection, project_id, person.user_id):
                raise not_found("project", "You are no member of it any more.")
        return see(HOME)

    async def transfer(self, request: Request, person: Principal) -> Response:
        form, project_id = await self._form(request, person)
        async with self._database.transaction(person, project_id) as connection:
            project = await roles.owned(connection, project_id)
            typed = " ".join(form.get("name", "").split())
            right = typed == " ".join(str(project["name"]).split())
            if right and not await members.transfer(connection, _uuid(form.get("member", ""))):
                raise not_found("member", "Choose one of the members on the page.")
        if not right:
            visit = Visit(fault="That is not the name of the project. Nothing was changed.", at="name", typed=form)
            return await self._shown(request, person, visit, 422)
        return _see(project_id, "transferred")

    async def _form(self, request: Request, person: Principal) -> tuple[Form, UUID]:
        form = await self._site.form(request, person)
        project_id: UUID = request.path_params["project_id"]
        return form, project_id

    async def _member(self, connection: Connection, request: Request) -> UUID:
        member_id: UUID = request.path_params["member_id"]
        if await members.role_of(connection, request.path_params["project_id"], member_id) is None:
            raise not_found("member", "They are no member any more: open the page again.")
        return member_id

    async def _after_sending(
        self, request: Request, person: Principal, sent: Sent, address: str, said: str
    ) -> Response:
        if sent.mailed:
            return _see(request.path_params["project_id"], said)
        link = f"{self._site.address.base(request.scope)}{OPENED_AT}/{sent.token}"
        return await self._shown(request, person, Visit(link=link, invited=address))

    async def _shown(self, request: Request, person: Principal, visit: Visit, status: int = 200) -> Response:
        project_id: UUID = request.path_params["project_id"]
        after = from_cursor(request.query_params.get("after"))
        async with self._database.transaction(person, project_id) as connection:
            project = await projects.fetch(connection, project_id)
            if project is None:
                raise not_found("project", "Ask whoever sent you here for a new address.")
            found = await members.page(connection, after=after, limit=SHOWN + 1)
            mine = await members.role_of(connection, project_id, person.user_id)
            administered = mine in ("owner", "admin")
            waiting = await invitations.page(connection, project_id, before=None, limit=SHOWN) if administered else []
            last_owner = await members.is_last_owner(connection, project_id, person.user_id)
        values: dict[str, Any] = {
            "project": project,
            "members": found[:SHOWN],
            "next": to_cursor(found[SHOWN - 1]["id"]) if len(found) > SHOWN else None,
            "waiting": waiting,
            "now": datetime.now(UTC),
            "me": person.user_id,
            "mine": mine,
            "administered": administered,
            "last_owner": last_owner,
            "grantable": members.ROLES if mine == "owner" else members.ROLES[1:],
            "visit": visit,
            "mailed": self._mail.seal is not None,
            "tab": "/members",
            "path": f"/projects/{project_id}/members",
        }
        return self._site.page(person, "members.html", values, status)


def _address(typed: str) -> str:
    mailbox = Mailbox.parse(typed)
    if mailbox.name:
        raise ValueError("is more than an address")
    return mailbox.key


def _one_of(given: str | None, known: tuple[str, ...]) -> str:
    """What a form chose; what may least for what it could not have chosen."""
    return given if given in known else known[-1]


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found("member", "Choose one of the members on the page.") from None


def _see(project_id: UUID, said: str) -> Response:
    return see(f"/projects/{project_id}/members?{urlencode({'said': said})}")
