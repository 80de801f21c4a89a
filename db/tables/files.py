"""The tables of stored files."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, PrimaryKeyConstraint, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from db.columns import count, moment, now, of_project, one_of, parent, words


class File(SQLModel, table=True):
    """A file of a project: the row of the object ``{project_id}/{id}`` in the store, whose bytes never change.

    ``pending``: expected until ``expires_at``; ``ready``: there, and checked; ``lost``: the store has it no more;
    ``deleting``: gone for callers, its object goes next. At most one ready file of the same owner has a path.
    """

    __tablename__ = "files"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        of_project(),
        parent("end_users", "end_user_id"),
        one_of("status", "pending", "ready", "lost", "deleting"),
        CheckConstraint("size >= 0", name="size_known"),
        CheckConstraint("octet_length(path) <= 512", name="path_short"),
        Index(
            "files_one_ready_at_a_path",
            *("project_id", "end_user_id", "path"),
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("status = 'ready'"),
        ),
        Index(None, "project_id", "path", "id"),
        Index("files_due_idx", "expires_at", "project_id", postgresql_where=text("status <> 'deleting'")),
        Index("files_deleting_idx", "project_id", "id", postgresql_where=text("status = 'deleting'")),
    )

    project_id: UUID
    id: UUID
    end_user_id: UUID | None = None
    path: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    content_type: str = Field(sa_column=words())
    sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    status: str = Field(sa_column=words("pending"))
    temporary: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    expires_at: datetime | None = Field(default=None, sa_column=moment())
    upload_id: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    created_by: UUID
    credential_id: UUID
    run_id: UUID | None = None
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())


class ProjectStorage(SQLModel, table=True):
    """How much a project stores, kept by a trigger on ``files``; ``quota`` in bytes, without one the house's own."""

    __tablename__ = "project_storage"
    __table_args__ = (PrimaryKeyConstraint("project_id"), of_project())

    project_id: UUID
    bytes: int = Field(sa_column=count(BigInteger))
    files: int = Field(sa_column=count(BigInteger))
    quota: int | None = Field(default=None, sa_column=Column(BigInteger))
