"""The tables of conversations and of runs that answer in them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from db.columns import count, json, moment, now, of_project, one_of, parent, texts, words


class Thread(SQLModel, table=True):
    """A conversation."""

    __tablename__ = "threads"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "end_user_id", "external_id", postgresql_nulls_not_distinct=True),
        of_project(),
        parent("end_users", "end_user_id"),
        Index("threads_unnamed_idx", "project_id", "id", postgresql_where=text("name IS NULL")),
    )

    project_id: UUID
    id: UUID
    end_user_id: UUID | None = None
    external_id: str = Field(sa_column=words())
    name: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    state: Any = Field(default=None, sa_column=Column(JSONB))
    state_set_by: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class Run(SQLModel, table=True):
    """One answer of an agent in a thread: its principal, its state, its lease and what it used.

    ``scopes`` and ``rights`` (binding, kind, read-only, tools) are its caller's: a process that goes on with the run
    makes its grant from them. ``outcome``: as in RUN_FINISHED. ``seconds``: how long it may take once it started.
    ``root_id``: the run that started the one that started this one, and so on. ``limits``: its agent's, once they are
    shared. ``metered_*``: what of it its month has already; ``reserved_usd``: for the request that is being answered.
    """

    __tablename__ = "runs"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "end_user_id", "external_id", postgresql_nulls_not_distinct=True),
        of_project(),
        parent("threads", "thread_id"),
        parent("end_users", "end_user_id"),
        ForeignKeyConstraint(
            ["project_id", "agent_id"], ["agents.project_id", "agents.id"], ondelete="SET NULL (agent_id)"
        ),
        one_of("status", "queued", "running", "succeeded", "failed", "cancelled", "interrupted"),
        one_of("on_disconnect", "continue", "cancel"),
        Index(
            "runs_one_running_per_thread",
            "project_id",
            "thread_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
        Index(
            "runs_waiting_idx",
            *("project_id", "thread_id", "created_at", "id"),
            postgresql_where=text("status = 'queued'"),
        ),
        Index("runs_thread_idx", "project_id", "thread_id", "id"),
        Index("runs_lease_idx", "lease_expires_at", postgresql_where=text("status IN ('queued', 'running')")),
        Index("runs_ended_idx", "ended_at", postgresql_where=text("compacted_at IS NULL")),
        Index("runs_id_idx", "id"),
        Index("runs_live_idx", "credential_id", postgresql_where=text("status IN ('queued', 'running')")),
        Index("runs_tree_idx", "root_id", postgresql_where=text("root_id IS NOT NULL")),
        Index("runs_reserved_idx", "project_id", postgresql_where=text("reserved_usd IS NOT NULL")),
    )

    project_id: UUID
    id: UUID
    thread_id: UUID
    end_user_id: UUID | None = None
    external_id: str = Field(sa_column=words())
    credential_id: UUID
    user_id: UUID
    scopes: list[str] = Field(sa_column=texts())
    rights: dict[str, Any] = Field(sa_column=json())
    depth: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    parent_id: UUID | None = None
    root_id: UUID | None = None
    agent: str = Field(sa_column=words())
    agent_id: UUID | None = None
    model: str | None = Field(default=None, sa_column=Column(Text))
    status: str = Field(sa_column=words("queued"))
    on_disconnect: str = Field(sa_column=words("continue"))
    input: dict[str, Any] = Field(sa_column=json())
    input_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    error_code: str | None = Field(default=None, sa_column=Column(Text))
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    requests: int = Field(sa_column=count())
    tool_calls: int = Field(sa_column=count())
    input_tokens: int = Field(sa_column=count(BigInteger))
    output_tokens: int = Field(sa_column=count(BigInteger))
    cost_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    limits: dict[str, Any] = Field(sa_column=json())
    metered_messages: int = Field(sa_column=count())
    metered_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default=text("0")))
    reserved_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    last_seq: int = Field(sa_column=count(BigInteger))
    lease_owner: UUID | None = None
    lease_epoch: int = Field(sa_column=count())
    lease_expires_at: datetime | None = Field(default=None, sa_column=moment())
    cancel_requested_at: datetime | None = Field(default=None, sa_column=moment())
    seconds: float = Field(sa_column=Column(Float, nullable=False, server_default=text("600")))
    created_at: datetime = Field(sa_column=now())
    started_at: datetime | None = Field(default=None, sa_column=moment())
    deadline_at: datetime | None = Field(default=None, sa_column=moment())
    ended_at: datetime | None = Field(default=None, sa_column=moment())
    compacted_at: datetime | None = Field(default=None, sa_column=moment())


class Message(SQLModel, table=True):
    """One message of a thread, in the order of ``position``; ``content`` is one pydantic-ai ModelMessage as JSON. Those
    that a thread began with are of no run."""

    __tablename__ = "messages"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "thread_id", "position"),
        parent("threads", "thread_id"),
        parent("runs", "run_id"),
        Index(None, "project_id", "run_id"),
    )

    project_id: UUID
    id: UUID
    thread_id: UUID
    run_id: UUID | None = None
    end_user_id: UUID | None = None
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    role: str = Field(sa_column=words())
    content: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=now())


class RunEvent(SQLModel, table=True):
    """One canonical AG-UI event of a run, the bytes as they are sent (jsonb would not keep them)."""

    __tablename__ = "run_events"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "run_id", "seq"),
        parent("runs", "run_id"),
    )

    project_id: UUID
    run_id: UUID
    seq: int = Field(sa_column=Column(BigInteger, nullable=False, autoincrement=False))
    end_user_id: UUID | None = None
    event: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=now())


class RunStep(SQLModel, table=True):
    """One step that a run has finished: an answer of its model, or what one call of a tool came to, as JSON.

    ``seq``: the run's last event when it ended. Written by the run's own process only, under its lease.
    """

    __tablename__ = "run_steps"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "run_id", "name"),
        parent("runs", "run_id"),
    )

    project_id: UUID
    run_id: UUID
    name: str = Field(sa_column=words())
    end_user_id: UUID | None = None
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=now())
