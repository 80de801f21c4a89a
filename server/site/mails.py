"""The pages of mail: what a project sent or kept, each mail as its reader sees it, and what the house wrote to oneself.

Somebody else's HTML is shown in a frame of its own, where nothing runs, nothing is loaded and nothing is sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from db import email_delivery, emails, house_mails, ledger, projects
from db.errors import conflict, needs_member, not_found
from db.principal import Principal
from server.mail.composing import compose
from server.mail.house_delivery import message_of
from server.site.pages import Site, see
from tools.pages import from_cursor, to_cursor

if TYPE_CHECKING:
    import asyncpg

    from server.mail.message import Message
    from server.mail.post import Post

PATH: Final = "/mails"
ONE: Final = "/mails/{project_id:uuid}/{email_id:uuid}"
OWN: Final = "/mails/house/{mail_id:uuid}"
ROWS: Final = 25
MOST_PROJECTS: Final = 50
AGAIN: Final = frozenset({"kept", "failed", "unconfirmed"})
FRAMED: Final = {
    "content-security-policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none';"
        " frame-ancestors 'self'"
    ),
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def routes(site: Site, post: Post) -> list[BaseRoute]:
    pages = _Pages(site, post)
    return [
        site.signed_in(PATH, pages.list),
        site.signed_in(ONE, pages.one),
        site.signed_in(f"{ONE}/html", pages.content),
        site.signed_in(f"{ONE}/again", pages.again, "POST"),
        site.signed_in(OWN, pages.own),
        site.signed_in(f"{OWN}/html", pages.own_content),
    ]


class _Pages:
    def __init__(self, site: Site, post: Post) -> None:
        self._site = site
        self._database = site.services.database
        self._post = post

    async def list(self, request: Request, person: Principal) -> Response:
        before = from_cursor(request.query_params.get("before"))
        async with self._database.transaction(person, read_only=True) as connection:
            mine = await projects.page(connection, person.user_id, only=None, before=None, limit=MOST_PROJECTS)
            own = await house_mails.page(connection, limit=ROWS)
        chosen = _chosen(request.query_params.get("project"), mine)
        rows: list[asyncpg.Record] = []
        if chosen is not None:
            async with self._database.transaction(person, chosen, read_only=True) as connection:
                rows = await emails.page(connection, status=None, before=before, limit=ROWS + 1)
        values = {
            "projects": mine,
            "chosen": chosen,
            "mails": rows[:ROWS],
            "next": to_cursor(rows[ROWS - 1]["id"]) if len(rows) > ROWS else None,
            "own": [(row, self._own_message(row).subject) for row in own],
            "kept": self._post.house is None,
        }
        return self._page("mails.html", person, values)

    async def one(self, request: Request, person: Principal) -> Response:
        row, writable = await self._row(request, person)
        values = {
            "mail": {**dict(row.items()), "events": [_dated(one) for one in row["events"]]},
            "message": self._message(row),
            "path": f"{PATH}/{row['project_id']}/{row['id']}",
            "again": writable and row["status"] in AGAIN,
        }
        return self._page("mail.html", person, values)

    async def content(self, request: Request, person: Principal) -> Response:
        row, _writable = await self._row(request, person)
        return _framed(self._message(row))

    async def again(self, request: Request, person: Principal) -> Response:
        await self._site.form(request, person)
        row, writable = await self._row(request, person)
        if not writable:
            raise needs_member()
        async with self._database.transaction(person, row["project_id"]) as connection:
            if not await email_delivery.start_again(connection, row["id"]):
                raise conflict(
                    "email_not_sendable",
                    f"This email is {row['status']}, so it is not sent again.",
                    "Only mail that was kept, failed or is unconfirmed is.",
                )
            await ledger.audit(connection, person, row["project_id"], "send_email_again", str(row["id"]))
        return see(f"{PATH}/{row['project_id']}/{row['id']}")

    async def own(self, request: Request, person: Principal) -> Response:
        row = await self._own_row(request, person)
        values = {
            "mail": {**dict(row.items()), "events": [], "attachments": [], "project_id": None},
            "message": self._own_message(row),
            "path": f"{PATH}/house/{row['id']}",
            "again": False,
        }
        return self._page("mail.html", person, values)

    async def own_content(self, request: Request, person: Principal) -> Response:
        return _framed(self._own_message(await self._own_row(request, person)))

    async def _row(self, request: Request, person: Principal) -> tuple[asyncpg.Record, bool]:
        """The mail of the address, and whether this person may send from its project."""
        project_id, email_id = request.path_params["project_id"], request.path_params["email_id"]
        async with self._database.transaction(person, project_id, read_only=True) as connection:
            row = await email_delivery.fetch(connection, email_id)
            place = await emails.place(connection, project_id)
        if row is None:
            raise not_found("email", "Look for it on the page of mails.")
        return row, bool(place.writable)

    async def _own_row(self, request: Request, person: Principal) -> asyncpg.Record:
        async with self._database.transaction(person, read_only=True) as connection:
            row = await house_mails.fetch(connection, request.path_params["mail_id"])
        if row is None:
            raise not_found("email", "Look for it on the page of mails.")
        return row

    def _message(self, row: asyncpg.Record) -> Message:
        """As it is sent, but for the bytes of its attachments."""
        contact_id: UUID | None = row["contact_id"]
        link = self._post.links.of_contact(row["project_id"], contact_id, row["id"]) if contact_id else None
        return compose(row, [], link)

    def _own_message(self, row: asyncpg.Record) -> Message:
        """Without what it opens: that is for who has the mailbox."""
        return message_of({**dict(row.items()), "secret": None, "expires_at": None}, self._post)

    def _page(self, template: str, person: Principal, values: dict[str, Any]) -> Response:
        return self._site.page(person, template, values, frames=True)


def _chosen(asked: str | None, mine: list[asyncpg.Record]) -> UUID | None:
    """The project that is asked for, else the newest."""
    ids: list[UUID] = [row["id"] for row in mine]
    return next((one for one in ids if str(one) == asked), ids[0] if ids else None)


def _dated(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "at": datetime.fromisoformat(event["at"])}


def _framed(message: Message) -> Response:
    return HTMLResponse(message.html or "", headers=FRAMED)
