"""Templates: texts that a project keeps for its mail, with ``{{ variables }}`` in them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from db import email_templates
from db.errors import AppError, Details, invalid, not_found
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.email_access import require_readable, require_writable
from tools.email_templates import Template
from tools.emails import Body, Subject
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,59}", re.ASCII)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must begin with a small letter, then small letters, digits, _ and -, at most 60 in all")
    return text


Name: TypeAlias = Annotated[str, Field(description="Such as order-shipped."), AfterValidator(_name)]


class TemplateSummary(BaseModel):
    id: UUID
    name: Untrusted[str]
    subject: Untrusted[str]
    variables: Untrusted[list[str]]
    has_html: bool
    updated_at: datetime


class TemplatePage(BaseModel):
    templates: list[TemplateSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class KeptTemplate(TemplateSummary):
    text: Untrusted[str] | None
    html: Untrusted[str] | None


class DeletedTemplate(BaseModel):
    id: UUID
    deleted: Literal[True] = True


@tool(Scope.email_write, read_only=False, destructive=False, idempotent=True, open_world=False)
async def save_template(
    call: Caller,
    project_id: ProjectId,
    name: Name,
    subject: Annotated[Subject, Field(min_length=1, description="One line.")],
    text: Annotated[Body | None, Field(description="Plain.")] = None,
    html: Annotated[Body | None, Field(description="Without text, the text is made of it.")] = None,
) -> TemplateSummary:
    """Keep a template for send_email, in place of the one of this name.

    {{ name }} is a variable, whose values are escaped in html; {{ unsubscribe_url }} is filled in for an audience."""
    if not text and not html:
        needs_text: Details = {"arguments": [{"do": "give", "at": "text"}]}
        raise invalid("A template needs text, html or both.", "Give one of them.", details=needs_text)
    rules = call.services.mail
    size = sum(len((part or "").encode()) for part in (text, html))
    if size > rules.content_bytes:
        raise AppError(
            "email_too_large",
            413,
            f"Text and HTML have {size} bytes together; at most {rules.content_bytes} may be sent.",
            "Shorten it.",
            details={"max_bytes": rules.content_bytes},
        )
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        row = await email_templates.put(connection, project_id, name, subject=subject, text=text, html=html)
    return _summary(row)


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_templates(
    call: Caller, project_id: ProjectId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> TemplatePage:
    """List the templates a project keeps. notice and action are there without being listed."""
    async with call.transaction() as connection:
        rows = await email_templates.page(connection, before=from_cursor(cursor), limit=limit + 1)
        if not rows:
            await require_readable(connection, project_id)
    shown, more = cut(rows, limit, _summary)
    return TemplatePage(templates=shown, next_cursor=more)


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_template(call: Caller, project_id: ProjectId, name: Name) -> KeptTemplate:
    """Read a template."""
    async with call.transaction() as connection:
        row = await email_templates.find(connection, name)
        if row is None:
            await require_readable(connection, project_id)
            raise not_found("template")
    return KeptTemplate(**_summary(row).model_dump(), text=row["text"], html=row["html"])


@tool(Scope.email_write, read_only=False, destructive=True, idempotent=True, open_world=False, target="name")
async def delete_template(call: Caller, project_id: ProjectId, name: Name) -> DeletedTemplate:
    """Delete a template. Mails that were made of it stay as they are."""
    async with call.transaction() as connection:
        await require_writable(connection, project_id)
        template_id = await email_templates.delete(connection, name)
    if template_id is None:
        raise not_found("template")
    return DeletedTemplate(id=template_id)


def _summary(row: asyncpg.Record) -> TemplateSummary:
    template = Template(row["subject"], row["text"], row["html"])
    return TemplateSummary(
        id=row["id"],
        name=row["name"],
        subject=row["subject"],
        variables=template.variables,
        has_html=row["html"] is not None,
        updated_at=row["updated_at"],
    )
