"""The tables of the email family: what projects send and to whom, and what the house itself sends to its people.

A mail is a row before it is anything else; what became of it is that row and its events. The house's own mail belongs
to no project and is in tables of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from db.columns import count, json, moment, now, of_project, one_of, parent, texts, words

OUTCOMES = ("queued", "sending", "sent", "delivered", "bounced", "complained", "kept", "failed", "unconfirmed")
"""``kept``: nothing delivers mail here, so it can be read. ``unconfirmed``: handed over, and the answer was lost."""
EVENTS = (
    *("scheduled", "queued", "deferred", "sent", "kept", "failed", "unconfirmed", "cancelled"),
    *("delivered", "delayed", "bounced", "complained", "opened", "clicked", "suppressed", "unsubscribed"),
)
HOUSE_MAILS = ("welcome", "first_message", "magic_link", "invitation", "message_limit")


class Email(SQLModel, table=True):
    """A mail of a project. Mailboxes are text as people read them, ``Ada <ada@example.org>``.

    ``route``: by what, as which account, it was handed over at ``handed_over_at`` without being refused since. A mail
    that may be on its way by one route is never sent by another. ``contact_id``: whom it is to, when it is mail that
    one may unsubscribe from. ``withheld``: addresses among the recipients that it does not go to.
    ``attempts_before``: of these, those before a person had it sent again.
    """

    __tablename__ = "emails"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        of_project(),
        parent("end_users", "end_user_id"),
        parent("contacts", "contact_id"),
        one_of("status", "scheduled", "cancelled", *OUTCOMES),
        Index(None, "project_id", "status", "id"),
        Index("emails_provider_id_idx", "provider_id", postgresql_where=sql("provider_id IS NOT NULL")),
    )

    project_id: UUID
    id: UUID
    end_user_id: UUID | None = None
    contact_id: UUID | None = None
    status: str = Field(sa_column=words("queued"))
    sender: str = Field(sa_column=words())
    recipients: list[str] = Field(sa_column=texts())
    cc: list[str] = Field(sa_column=texts())
    bcc: list[str] = Field(sa_column=texts())
    reply_to: list[str] = Field(sa_column=texts())
    withheld: list[str] = Field(sa_column=texts())
    subject: str = Field(sa_column=words())
    text: str = Field(sa_column=words())
    html: str | None = Field(default=None, sa_column=Column(Text))
    attachments: list[dict[str, Any]] = Field(
        sa_column=Column(JSONB, nullable=False, server_default=sql("'[]'::jsonb"))
    )
    tags: dict[str, Any] = Field(sa_column=json())
    scheduled_at: datetime | None = Field(default=None, sa_column=moment())
    attempts: int = Field(sa_column=count())
    attempts_before: int = Field(sa_column=count())
    handed_over_at: datetime | None = Field(default=None, sa_column=moment())
    route: str | None = Field(default=None, sa_column=Column(Text))
    provider_id: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    sent_at: datetime | None = Field(default=None, sa_column=moment())
    created_by: UUID
    credential_id: UUID
    run_id: UUID | None = None
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class EmailEvent(SQLModel, table=True):
    """One step of a mail's way, ours or what the provider told of it. ``detail``: in whose words is not ours to say."""

    __tablename__ = "email_events"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        parent("emails", "email_id"),
        parent("end_users", "end_user_id"),
        one_of("kind", *EVENTS),
        Index(None, "project_id", "email_id", "id"),
    )

    project_id: UUID
    id: UUID
    email_id: UUID
    end_user_id: UUID | None = None
    kind: str = Field(sa_column=words())
    detail: str | None = Field(default=None, sa_column=Column(Text))
    recipients: list[str] = Field(sa_column=texts())
    at: datetime = Field(sa_column=now())


class Contact(SQLModel, table=True):
    """Somebody a project writes to, known by their address in small letters."""

    __tablename__ = "contacts"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "address"),
        of_project(),
    )

    project_id: UUID
    id: UUID
    address: str = Field(sa_column=words())
    name: str = Field(sa_column=words(""))
    fields: dict[str, Any] = Field(sa_column=json())
    subscribed: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=sql("true")))
    unsubscribed_at: datetime | None = Field(default=None, sa_column=moment())
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class Suppression(SQLModel, table=True):
    """An address a project may not write to, because mail bounced there or was complained about."""

    __tablename__ = "suppressions"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "address"),
        of_project(),
        one_of("reason", "bounced", "complained"),
    )

    project_id: UUID
    address: str = Field(sa_column=words())
    reason: str = Field(sa_column=words())
    email_id: UUID | None = None
    created_at: datetime = Field(sa_column=now())


class EmailTemplate(SQLModel, table=True):
    """Text with ``{{ variables }}`` that a project keeps under a name."""

    __tablename__ = "email_templates"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "name"),
        of_project(),
    )

    project_id: UUID
    id: UUID
    name: str = Field(sa_column=words())
    subject: str = Field(sa_column=words())
    text: str | None = Field(default=None, sa_column=Column(Text))
    html: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class EmailAccount(SQLModel, table=True):
    """A project's own account with the mail provider; without one its mail goes by the house's.

    ``domains``: those it may send from, as the provider told when the key was entered.
    """

    __tablename__ = "email_accounts"
    __table_args__ = (PrimaryKeyConstraint("project_id"), of_project())

    project_id: UUID
    sender: str = Field(sa_column=words())
    domains: list[str] = Field(sa_column=texts())
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class EmailSecret(SQLModel, table=True):
    """What that account's key is, and with what its webhooks are signed; sealed. ``hint``: the last characters."""

    __tablename__ = "email_secrets"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "kind"),
        of_project(),
        one_of("kind", "api_key", "webhook_secret"),
        CheckConstraint("length(hint) <= 4", name="hint_short"),
    )

    project_id: UUID
    id: UUID
    kind: str = Field(sa_column=words())
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hint: str = Field(sa_column=words(""))
    created_by: UUID
    created_at: datetime = Field(sa_column=now())


class ReceivedWebhook(SQLModel, table=True):
    """A webhook that was taken in, so that its next delivery changes nothing. Kept longer than anybody retries."""

    __tablename__ = "received_webhooks"
    __table_args__ = (PrimaryKeyConstraint("source", "message_id"), Index(None, "received_at"))

    source: str = Field(sa_column=words())
    message_id: str = Field(sa_column=words())
    received_at: datetime = Field(sa_column=now())


class HouseMail(SQLModel, table=True):
    """A mail of the house itself. ``once``: of one kind there is at most one with the same.

    ``variables`` are what its template is filled with. What opens something, such as a sign-in link, is in ``secret``,
    sealed, and is gone as soon as the mail is.
    """

    __tablename__ = "house_mails"
    __table_args__ = (
        UniqueConstraint("kind", "once"),
        ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        one_of("kind", *HOUSE_MAILS),
        one_of("status", *OUTCOMES),
        CheckConstraint("address = lower(address)", name="address_small"),
        Index(None, "user_id", "id"),
    )

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=words())
    user_id: UUID | None = None
    once: str | None = Field(default=None, sa_column=Column(Text))
    address: str = Field(sa_column=words())
    name: str = Field(sa_column=words(""))
    variables: dict[str, Any] = Field(sa_column=json())
    secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    status: str = Field(sa_column=words("queued"))
    attempts: int = Field(sa_column=count())
    handed_over_at: datetime | None = Field(default=None, sa_column=moment())
    route: str | None = Field(default=None, sa_column=Column(Text))
    provider_id: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    expires_at: datetime | None = Field(default=None, sa_column=moment())
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class HouseSuppression(SQLModel, table=True):
    """An address the house may not write to; ``unsubscribed``: only with what nobody asked for."""

    __tablename__ = "house_suppressions"
    __table_args__ = (one_of("reason", "bounced", "complained", "unsubscribed"),)

    address: str = Field(sa_column=Column(Text, primary_key=True))
    reason: str = Field(sa_column=words())
    created_at: datetime = Field(sa_column=now())
