"""The tables of what is kept of calls: saved answers, what a person said to them, and the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, PrimaryKeyConstraint, Text, text
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, json, moment, now, one_of, words


class Idempotency(SQLModel, table=True):
    """The saved answer to a write. Belongs to the credential and outlives the project it changed."""

    __tablename__ = "idempotency"
    __table_args__ = (PrimaryKeyConstraint("credential_id", "key"), Index(None, "expires_at"))

    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE")
    key: str = Field(sa_column=words())
    tool: str = Field(sa_column=words())
    arguments_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    project_id: UUID | None = None
    answer: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, server_default=text("now() + interval '24 hours'"))
    )


class Approval(SQLModel, table=True):
    """A person's answer to one call that asks first. Belongs to the credential and outlives the project.

    The caller is the credential, its end user, and whether it called itself or through a run. At most one record of the
    same caller, tool and arguments is live; past ``expires_at`` a live one counts for nothing.
    """

    __tablename__ = "approvals"
    __table_args__ = (
        one_of("state", "pending", "approved", "denied", "used", "expired"),
        one_of("decided_through", "elicitation", "page", "interrupt"),
        Index(
            "approvals_one_live",
            *("credential_id", "end_user_id", "through_run", "tool", "arguments_digest"),
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("state IN ('pending', 'approved', 'denied')"),
        ),
        Index("approvals_used_idx", "credential_id", "tool", "target", postgresql_where=text("state = 'used'")),
        Index(None, "user_id", "id"),
        Index(None, "project_id", "id"),
        Index(None, "expires_at"),
    )

    id: UUID = Field(primary_key=True)
    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE")
    user_id: UUID
    end_user_id: UUID | None = None
    run_id: UUID | None = None
    through_run: bool
    project_id: UUID | None = None
    tool: str = Field(sa_column=words())
    target: str = Field(sa_column=words())
    arguments_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    arguments: dict[str, Any] = Field(sa_column=json())
    preview: dict[str, Any] = Field(sa_column=json())
    state: str = Field(sa_column=words("pending"))
    decided_by: UUID | None = None
    decided_through: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, server_default=text("now() + interval '10 minutes'"))
    )
    decided_at: datetime | None = Field(default=None, sa_column=moment())
    used_at: datetime | None = Field(default=None, sa_column=moment())


class Audit(SQLModel, table=True):
    """One security-relevant act: who, what, and from where. Append-only; no foreign keys, so that nothing it names can
    take it along. ``address`` and ``user_agent`` are those of the request, ``client`` the name of the credential."""

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "action", "id"),
    )

    id: UUID = Field(primary_key=True)
    credential_id: UUID
    user_id: UUID
    project_id: UUID | None = None
    run_id: UUID | None = None
    action: str = Field(sa_column=words())
    target: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=now())
    detail: str | None = Field(default=None, sa_column=Column(Text))
    address: str | None = Field(default=None, sa_column=Column(Text))
    user_agent: str | None = Field(default=None, sa_column=Column(Text))
    client: str | None = Field(default=None, sa_column=Column(Text))
