"""The tables of the component registry, and of where it is filled from."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlmodel import Field, SQLModel

from db import columns


class Component(SQLModel, table=True):
    """A name in a project's registry, and what searches look at: its newest version that may be installed, kept by
    ``refresh_component``. Without such a version (all yanked) ``latest_id`` is null and nothing finds it.

    ``embedding`` is of ``words``, made by ``embedding_model``; null until a job has made it.
    """

    __tablename__ = "components"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "name"),
        columns.of_project(),
        Index("components_search_idx", "search", postgresql_using="gin"),
        Index("components_name_trgm_idx", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )

    project_id: UUID
    id: UUID
    name: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    latest_id: UUID | None = None
    type: str = Field(sa_column=columns.words(""))
    title: str = Field(sa_column=columns.words(""))
    description: str = Field(sa_column=columns.words(""))
    words: str = Field(sa_column=columns.words(""))
    search: Any = Field(sa_column=Column(TSVECTOR, nullable=False, server_default=text("''::tsvector")))
    embedding: list[float] | None = Field(default=None, sa_column=Column(ARRAY(REAL), nullable=True))
    embedding_model: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=columns.now())
    updated_at: datetime = Field(sa_column=columns.now())


class ComponentVersion(SQLModel, table=True):
    """A published version of a component. Nothing of it changes but its status: the application role may not.

    ``item``, ``props`` and ``state`` are JSON as its author ordered it (CSS has an order, jsonb would not keep it);
    the contents of files are blobs. ``precedence`` sorts as Semantic Versioning does. ``hash``: SHA-256 of the
    canonical JSON of all that, files by their sums, the version left out.
    """

    __tablename__ = "component_versions"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "component_id", "version"),
        columns.parent("components", "component_id"),
        columns.one_of("status", "published", "deprecated", "yanked"),
        Index(None, "project_id", "component_id", "precedence"),
    )

    project_id: UUID
    id: UUID
    component_id: UUID
    version: str = Field(sa_column=columns.words())
    precedence: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    type: str = Field(sa_column=columns.words())
    title: str = Field(sa_column=columns.words())
    description: str = Field(sa_column=columns.words())
    words: str = Field(sa_column=columns.words())
    item: str = Field(sa_column=columns.words())
    props: str | None = Field(default=None, sa_column=Column(Text))
    state: str | None = Field(default=None, sa_column=Column(Text))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    status: str = Field(sa_column=columns.words("published"))
    reason: str = Field(sa_column=columns.words(""))
    created_by: UUID
    credential_id: UUID
    run_id: UUID | None = None
    created_at: datetime = Field(sa_column=columns.now())
    status_at: datetime = Field(sa_column=columns.now())


class ComponentBlob(SQLModel, table=True):
    """The content of a file of components: the object ``registry/{project_id}/{sha256}`` in the store, once a project
    however many versions have it. Its size counts against the project's quota."""

    __tablename__ = "component_blobs"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "sha256"),
        columns.of_project(),
        CheckConstraint("octet_length(sha256) = 32", name="sha256_whole"),
        CheckConstraint("size >= 0", name="size_known"),
    )

    project_id: UUID
    sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=columns.now())


class RegistrySource(SQLModel, table=True):
    """Where components of a project come from by themselves: a built ``manifest`` (registry.json, its items beside it),
    or the ``files`` of a repository under a forge's raw address. ``secret``: of its webhooks, sealed; without one they
    are refused."""

    __tablename__ = "registry_sources"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "url"),
        columns.of_project(),
        columns.one_of("kind", "manifest", "files"),
        Index(None, "id"),
    )

    project_id: UUID
    id: UUID
    url: str = Field(sa_column=columns.words())
    kind: str = Field(sa_column=columns.words())
    secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    secret_at: datetime | None = Field(default=None, sa_column=columns.moment())
    created_by: UUID
    credential_id: UUID
    created_at: datetime = Field(sa_column=columns.now())


class RegistrySync(SQLModel, table=True):
    """One time that a source was looked at, and what came of it. ``delivery``: the webhook's own name for itself, so
    that one that comes again is the same sync; null when somebody asked. ``superseded``: a later one took its place.

    ``changes`` and ``faults``: lists of small objects, the first of many.
    """

    __tablename__ = "registry_syncs"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "source_id", "delivery"),
        columns.parent("registry_sources", "source_id"),
        columns.one_of("state", "queued", "running", "succeeded", "failed", "superseded"),
        Index(None, "project_id", "source_id", "id"),
    )

    project_id: UUID
    id: UUID
    source_id: UUID
    delivery: str | None = Field(default=None, sa_column=Column(Text))
    state: str = Field(sa_column=columns.words("queued"))
    done: int = Field(sa_column=columns.count())
    total: int | None = Field(default=None, sa_column=Column(Integer))
    published: int = Field(sa_column=columns.count())
    unchanged: int = Field(sa_column=columns.count())
    changes: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    faults: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    error_code: str | None = Field(default=None, sa_column=Column(Text))
    error_message: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=columns.now())
    started_at: datetime | None = Field(default=None, sa_column=columns.moment())
    ended_at: datetime | None = Field(default=None, sa_column=columns.moment())


class RegistryStaged(SQLModel, table=True):
    """An item that a sync has fetched and checked and not yet published; its contents are in the store. ``own``: what
    it needs of its registry. Here and not in memory, because there may be thousands."""

    __tablename__ = "registry_staged"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "sync_id", "name"),
        columns.parent("registry_syncs", "sync_id"),
    )

    project_id: UUID
    sync_id: UUID
    name: str = Field(sa_column=columns.words())
    version_id: UUID
    component_id: UUID
    version: str | None = Field(default=None, sa_column=Column(Text))
    precedence: str | None = Field(default=None, sa_column=Column(Text))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    type: str = Field(sa_column=columns.words())
    title: str = Field(sa_column=columns.words())
    description: str = Field(sa_column=columns.words())
    words: str = Field(sa_column=columns.words())
    item: str = Field(sa_column=columns.words())
    props: str | None = Field(default=None, sa_column=Column(Text))
    state: str | None = Field(default=None, sa_column=Column(Text))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    sums: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    sizes: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
    own: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
