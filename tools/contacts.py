"""Contacts: whom a project writes to when it writes to an audience, and the addresses that it may not write to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import to_json

from db import contacts, emails
from db.errors import AppError, not_found
from db.scopes import Scope
from tools.contract import Call, Caller, ProjectId, tool
from tools.email_access import require_readable, require_writable
from tools.mailboxes import LONGEST_NAME, Mailbox, one_line
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

MOST_FIELDS: Final = 2_000


def _address(text: str) -> str:
    return Mailbox.parse(text).key


def _fields(fields: dict[str, str]) -> dict[str, str]:
    if len(to_json(fields)) > MOST_FIELDS:
        raise ValueError(f"must be at most {MOST_FIELDS} bytes of JSON")
    if any("\x00" in text for pair in fields.items() for text in pair):
        raise ValueError("must not contain a NUL character")
    return fields


Address: TypeAlias = Annotated[str, Field(description="Such as ada@example.org."), AfterValidator(_address)]
Name: TypeAlias = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(one_line)]
Fields: TypeAlias = Annotated[dict[str, str], Field(description="Your notes, merged."), AfterValidator(_fields)]


class Contact(BaseModel):
    id: UUID
    email: Untrusted[str]
    name: Untrusted[str]
    fields: Untrusted[dict[str, str]]
    subscribed: bool
    unsubscribed_at: datetime | None
    created_at: datetime


class ContactPage(BaseModel):
    contacts: list[Contact]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class Suppression(BaseModel):
    email: Untrusted[str]
    reason: Literal["bounced", "complained"]
    since: datetime


class Suppressions(BaseModel):
    suppressions: list[Suppression]
    more_after: Untrusted[str] | None = Field(default=None, description="Pass as after for more.")


class Lifted(BaseModel):
    email: Untrusted[str]
    lifted: Literal[True] = True


@tool(Scope.email_write, read_only=False, destructive=False, idempotent=True, open_world=False)
async def upsert_contact(
    call: Caller,
    project_id: ProjectId,
    email: Address,
    name: Annotated[Name | None, Field(description="What to call them.")] = None,
    fields: Fields = {},  # noqa: B006  never changed
) -> Contact:
    """Add a contact who agreed to get mail, or change one. Who unsubscribed stays unsubscribed."""
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        return _contact(await contacts.put(connection, project_id, email, name, fields))


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_contacts(
    call: Caller,
    project_id: ProjectId,
    subscribed: Annotated[bool | None, Field(description="Only these.")] = None,
    limit: Limit = DEFAULT_ROWS,
    cursor: Cursor = None,
) -> ContactPage:
    """List the contacts of a project, newest first."""
    async with call.transaction() as connection:
        rows = await contacts.page(connection, subscribed=subscribed, before=from_cursor(cursor), limit=limit + 1)
        if not rows:
            await require_readable(connection, project_id)
    shown, more = cut(rows, limit, _contact)
    return ContactPage(contacts=shown, next_cursor=more)


@tool(
    Scope.email_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    target="email",
    asks_when=lambda _values: True,
)
async def subscribe_contact(call: Caller, project_id: ProjectId, email: Address) -> Contact:
    """Send mail for an audience to a contact again who had unsubscribed and asked for it since. A person is asked."""
    return await _subscribe(call, project_id, email, subscribed=True)


@tool(Scope.email_write, read_only=False, destructive=False, idempotent=True, open_world=False)
async def unsubscribe_contact(call: Caller, project_id: ProjectId, email: Address) -> Contact:
    """Send a contact no more mail for an audience."""
    return await _subscribe(call, project_id, email, subscribed=False)


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_suppressions(
    call: Caller,
    project_id: ProjectId,
    limit: Limit = DEFAULT_ROWS,
    after: Annotated[Address | None, Field(description="more_after of the answer before.")] = None,
) -> Suppressions:
    """List the addresses a project may not write to because mail to them bounced or they complained."""
    async with call.transaction() as connection:
        rows = await contacts.suppressions(connection, after=after or "", limit=limit + 1)
        if not rows:
            await require_readable(connection, project_id)
    found = [Suppression(email=row["address"], reason=row["reason"], since=row["created_at"]) for row in rows[:limit]]
    return Suppressions(suppressions=found, more_after=found[-1].email if len(rows) > limit else None)


async def _lifting(call: Call, project_id: UUID, email: str) -> Preview:
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        if email not in await emails.suppressed(connection, [email]):
            raise _not_suppressed()
    return Preview("This lets the project write again to an address that bounced or complained.", {"Address": email})


@tool(
    Scope.email_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_lifting,
    target="email",
)
async def lift_suppression(call: Caller, project_id: ProjectId, email: Address) -> Lifted:
    """Let the project write to a suppressed address again, when its owner says that it works and mail is wanted."""
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        if not await contacts.lift(connection, email):
            raise _not_suppressed()
    return Lifted(email=email)


async def _subscribe(call: Call, project_id: UUID, email: str, *, subscribed: bool) -> Contact:
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        row = await contacts.subscribe(connection, email, subscribed=subscribed)
        if row is None:
            raise not_found("contact")
        return _contact(row)


def _contact(row: asyncpg.Record) -> Contact:
    columns = {"email": row["address"], **dict(row.items())}
    return Contact(**{name: columns[name] for name in Contact.model_fields})


def _not_suppressed() -> AppError:
    return not_found(
        "suppression",
        "Nothing stands in the way of writing to that address; list_suppressions shows those that are suppressed.",
        {"next_tool": "list_suppressions"},
    )
