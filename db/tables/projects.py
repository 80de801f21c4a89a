"""The tables of projects and of who is a member of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, json, moment, now, of_project, one_of, words


class Project(SQLModel, table=True):
    """A tenant: the settings its agents run with."""

    __tablename__ = "projects"
    __table_args__ = (
        one_of("approval_policy", "always", "when_new", "never"),
        CheckConstraint("retention_days > 0", name="retention_days_positive"),
    )

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_column=words())
    instructions: str = Field(sa_column=words(""))
    model: str | None = Field(default=None, sa_column=Column(Text))
    base_url: str | None = Field(default=None, sa_column=Column(Text))
    max_input_tokens: int | None = Field(default=None, sa_column=Column(Integer))
    tool_call_limit: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("100")))
    allow_prompt_override: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    model_parameters: dict[str, Any] = Field(sa_column=json())
    approval_policy: str = Field(sa_column=words("always"))
    registry_public: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    registry_namespace: str = Field(sa_column=words("innkeeper"))
    anonymous_sessions: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    user_keys_from_browsers: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    retention_days: int | None = Field(default=None, sa_column=Column(Integer))
    monthly_messages: int | None = Field(default=None, sa_column=Column(BigInteger))
    monthly_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    end_user_monthly_messages: int | None = Field(default=None, sa_column=Column(BigInteger))
    end_user_monthly_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    model_prices: dict[str, Any] = Field(sa_column=json())
    created_by: UUID = Field(foreign_key="users.id", index=True)
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class ProjectMember(SQLModel, table=True):
    """What a user may do in a project. The database itself makes the creator of a project its owner."""

    __tablename__ = "project_members"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "project_id"),
        of_project(),
        one_of("role", "owner", "admin", "member", "viewer"),
        Index(None, "project_id"),
    )

    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    project_id: UUID
    role: str = Field(sa_column=words())
    created_at: datetime = Field(sa_column=now())


class Invitation(SQLModel, table=True):
    """Somebody with this address is asked to become a member. Only the hash of the token in the link is kept; a new
    one takes its place when the mail is sent again (``sent`` times, last at ``sent_at``)."""

    __tablename__ = "invitations"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        of_project(),
        one_of("role", "admin", "member", "viewer"),
        Index(
            "invitations_one_open",
            *("project_id", "address"),
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND revoked_at IS NULL"),
        ),
        Index(None, "address"),
        Index(None, "invited_by"),
    )

    project_id: UUID
    id: UUID
    address: str = Field(sa_column=words())
    role: str = Field(sa_column=words())
    invited_by: UUID
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    sent: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    sent_at: datetime = Field(sa_column=now())
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, server_default=text("now() + interval '7 days'"))
    )
    accepted_at: datetime | None = Field(default=None, sa_column=moment())
    accepted_by: UUID | None = None
    revoked_at: datetime | None = Field(default=None, sa_column=moment())
