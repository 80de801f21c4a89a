"""The schema. Every table is under forced row-level security (``migrations/rls.py``); the hot paths use it by raw SQL.

Tenant tables have the primary key ``(project_id, id)`` and reference each other by composite keys, so a row of one
project can never point at a row of another. Enumerations are text with a CHECK (a native enum cannot be downgraded
and its ``=`` is not leakproof). Ids are UUIDv7 made by the application; what a client calls its thread or run is
``external_id``, opaque text.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    CheckConstraint,
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
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlmodel import Field, SQLModel

from db.columns import Timestamp
from db.columns import count as _count
from db.columns import json as _json
from db.columns import moment as _moment
from db.columns import now as _now
from db.columns import of_project as _of_project
from db.columns import one_of as _one_of
from db.columns import parent as _parent
from db.columns import texts as _texts
from db.columns import words as _text


class User(SQLModel, table=True):
    """A person with an account. ``admin_at``: since when they are an administrator of the whole instance."""

    __tablename__ = "users"

    id: UUID = Field(primary_key=True)
    email: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    name: str = Field(sa_column=_text(""))
    created_at: datetime = Field(sa_column=_now())
    disabled_at: datetime | None = Field(default=None, sa_column=_moment())
    admin_at: datetime | None = Field(default=None, sa_column=_moment())


class SignInLink(SQLModel, table=True):
    """A one-time link to sign in with, and, with ``sign_up``, to get an account with. Opens ``next`` in the browser
    that asked for it. No role but the owner reads it: what it is about goes by the functions of migration 0060."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index(None, "expires_at"),)

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    browser_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    address: str = Field(sa_column=_text())
    sign_up: bool
    next: str = Field(sa_column=_text())
    created_at: datetime = Field(sa_column=_now())
    expires_at: datetime = Field(sa_column=Column(Timestamp, nullable=False))
    used_at: datetime | None = Field(default=None, sa_column=_moment())


class Project(SQLModel, table=True):
    """A tenant: the settings its agents run with."""

    __tablename__ = "projects"
    __table_args__ = (
        _one_of("approval_policy", "always", "when_new", "never"),
        CheckConstraint("retention_days > 0", name="retention_days_positive"),
    )

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_column=_text())
    instructions: str = Field(sa_column=_text(""))
    model: str | None = Field(default=None, sa_column=Column(Text))
    base_url: str | None = Field(default=None, sa_column=Column(Text))
    max_input_tokens: int | None = Field(default=None, sa_column=Column(Integer))
    tool_call_limit: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("100")))
    allow_prompt_override: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    model_parameters: dict[str, Any] = Field(sa_column=_json())
    approval_policy: str = Field(sa_column=_text("always"))
    registry_public: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    registry_namespace: str = Field(sa_column=_text("innkeeper"))
    anonymous_sessions: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    user_keys_from_browsers: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    retention_days: int | None = Field(default=None, sa_column=Column(Integer))
    monthly_messages: int | None = Field(default=None, sa_column=Column(BigInteger))
    monthly_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    end_user_monthly_messages: int | None = Field(default=None, sa_column=Column(BigInteger))
    end_user_monthly_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    model_prices: dict[str, Any] = Field(sa_column=_json())
    created_by: UUID = Field(foreign_key="users.id", index=True)
    created_at: datetime = Field(sa_column=_now())
    updated_at: datetime = Field(sa_column=_now())


class ProjectMember(SQLModel, table=True):
    """What a user may do in a project. The database itself makes the creator of a project its owner."""

    __tablename__ = "project_members"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "project_id"),
        _of_project(),
        _one_of("role", "owner", "admin", "member", "viewer"),
        Index(None, "project_id"),
    )

    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    project_id: UUID
    role: str = Field(sa_column=_text())
    created_at: datetime = Field(sa_column=_now())


class Invitation(SQLModel, table=True):
    """Somebody with this address is asked to become a member. Only the hash of the token in the link is kept; a new
    one takes its place when the mail is sent again (``sent`` times, last at ``sent_at``)."""

    __tablename__ = "invitations"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        _of_project(),
        _one_of("role", "admin", "member", "viewer"),
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
    address: str = Field(sa_column=_text())
    role: str = Field(sa_column=_text())
    invited_by: UUID
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    sent: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    sent_at: datetime = Field(sa_column=_now())
    created_at: datetime = Field(sa_column=_now())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, server_default=text("now() + interval '7 days'"))
    )
    accepted_at: datetime | None = Field(default=None, sa_column=_moment())
    accepted_by: UUID | None = None
    revoked_at: datetime | None = Field(default=None, sa_column=_moment())


class EndUser(SQLModel, table=True):
    """A user of a project's own product, known by the name that ``issuer`` has for them: the one of their tokens, empty
    for the product's own server, and words with a tilde before them for what is no issuer (:mod:`db.end_users`)."""

    __tablename__ = "end_users"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "issuer", "external_id"),
        _of_project(),
        Index("end_users_visitors_idx", "seen_at", postgresql_where=text("issuer = '~anonymous'")),
    )

    project_id: UUID
    id: UUID
    issuer: str = Field(sa_column=_text(""))
    external_id: str = Field(sa_column=_text())
    created_at: datetime = Field(sa_column=_now())
    seen_at: datetime = Field(sa_column=_now())


class TokenSource(SQLModel, table=True):
    """Whose word a project takes for who its end users are: an ``issuer`` with the keys it publishes (``url``: where,
    if it does not say itself), tokens signed with a shared secret (``hs256``, in ``sealed``) or under a ``public_key``,
    the ``userinfo`` endpoint at ``url``, or, with ``none``, anybody's."""

    __tablename__ = "token_sources"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint(
            *("project_id", "kind", "issuer", "audience", "url", "public_key"), postgresql_nulls_not_distinct=True
        ),
        _of_project(),
        _one_of("kind", "issuer", "hs256", "public_key", "userinfo", "none"),
        CheckConstraint("kind <> 'issuer' OR (issuer IS NOT NULL AND audience IS NOT NULL)", name="issuer_whole"),
        CheckConstraint("(kind = 'hs256') = (sealed IS NOT NULL)", name="secret_of_hs256"),
        CheckConstraint("(kind = 'public_key') = (public_key IS NOT NULL)", name="key_of_public_key"),
        CheckConstraint("kind <> 'userinfo' OR url IS NOT NULL", name="url_of_userinfo"),
    )

    project_id: UUID
    id: UUID
    kind: str = Field(sa_column=_text())
    issuer: str | None = Field(default=None, sa_column=Column(Text))
    audience: str | None = Field(default=None, sa_column=Column(Text))
    url: str | None = Field(default=None, sa_column=Column(Text))
    public_key: str | None = Field(default=None, sa_column=Column(Text))
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    created_by: UUID
    created_at: datetime = Field(sa_column=_now())


class EndUserToken(SQLModel, table=True):
    """A short-lived token of one end user. Read by ``authenticate`` alone."""

    __tablename__ = "end_user_tokens"

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE", index=True)
    scopes: list[str] = Field(sa_column=_texts())
    created_at: datetime = Field(sa_column=_now())
    expires_at: datetime = Field(sa_column=Column(Timestamp, nullable=False, index=True))


class Credential(SQLModel, table=True):
    """A key (``secret``; ``feed`` for installing from one project's registry; ``publishable`` for browsers, on pages of
    ``origins``), or a person's session on the pages (``session``), or the link that opens one, once (``link``). Only
    the SHA-256 of the token is kept; ``hint`` is its first characters, to tell keys apart. What an OAuth client may do
    for a user (``oauth``), and an end user by the key ``parent_id`` (``end_user``), has no token of its own but those
    of ``db.oauth.tables`` and of ``EndUserToken``, and stays the same when they change.

    ``project_id`` and ``project_ids``, at most one of which is set, have no foreign key: a key bound to a deleted
    project reaches nothing, but can still fetch the saved answers of its own writes, the deletion's among them.

    ``identity_id``: the account at an issuer through which it came about. While that is suspended, so is a grant: it
    has expired, and ``resumes_until`` is when it will have expired once the person has signed in there again.
    """

    __tablename__ = "credentials"
    __table_args__ = (
        _parent("end_users", "end_user_id"),
        _one_of("kind", "secret", "link", "session", "feed", "oauth", "publishable", "end_user"),
        CheckConstraint("end_user_id IS NULL OR project_id IS NOT NULL", name="end_user_of_project"),
        CheckConstraint("(kind = 'oauth') = (client_id IS NOT NULL)", name="client_of_oauth"),
        CheckConstraint("(kind IN ('oauth', 'end_user')) = (token_hash IS NULL)", name="token_of_others"),
        CheckConstraint("project_id IS NULL OR project_ids IS NULL", name="one_binding"),
        CheckConstraint("(kind = 'publishable') = (origins IS NOT NULL)", name="origins_of_publishable"),
        CheckConstraint("kind <> 'publishable' OR project_id IS NOT NULL", name="publishable_of_project"),
        CheckConstraint(
            "(kind = 'end_user') = (parent_id IS NOT NULL) AND (kind <> 'end_user' OR end_user_id IS NOT NULL)",
            name="parent_of_end_user",
        ),
        Index(None, "user_id"),
        Index(None, "project_id"),
        Index(None, "project_id", "end_user_id"),
        Index("credentials_origins_idx", "origins", postgresql_using="gin"),
        Index(
            "credentials_one_of_end_user",
            *("parent_id", "end_user_id"),
            unique=True,
            postgresql_where=text("revoked_at IS NULL AND parent_id IS NOT NULL"),
        ),
    )

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=_text("secret"))
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    project_id: UUID | None = None
    project_ids: list[UUID] | None = Field(default=None, sa_column=Column(ARRAY(Uuid)))
    end_user_id: UUID | None = None
    client_id: UUID | None = Field(default=None, foreign_key="oauth_clients.id", ondelete="CASCADE", index=True)
    parent_id: UUID | None = Field(default=None, foreign_key="credentials.id", ondelete="CASCADE", index=True)
    origins: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    identity_id: UUID | None = Field(default=None, foreign_key="identities.id", ondelete="SET NULL", index=True)
    audience: str | None = Field(default=None, sa_column=Column(Text))
    name: str = Field(sa_column=_text(""))
    hint: str = Field(sa_column=_text())
    token_hash: bytes | None = Field(default=None, sa_column=Column(LargeBinary, unique=True))
    scopes: list[str] = Field(sa_column=_texts())
    read_only: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = Field(sa_column=_now())
    expires_at: datetime | None = Field(default=None, sa_column=_moment())
    resumes_until: datetime | None = Field(default=None, sa_column=_moment())
    revoked_at: datetime | None = Field(default=None, sa_column=_moment())


class Idempotency(SQLModel, table=True):
    """The saved answer to a write. Belongs to the credential and outlives the project it changed."""

    __tablename__ = "idempotency"
    __table_args__ = (PrimaryKeyConstraint("credential_id", "key"), Index(None, "expires_at"))

    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE")
    key: str = Field(sa_column=_text())
    tool: str = Field(sa_column=_text())
    arguments_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    project_id: UUID | None = None
    answer: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    created_at: datetime = Field(sa_column=_now())
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
        _one_of("state", "pending", "approved", "denied", "used", "expired"),
        _one_of("decided_through", "elicitation", "page", "interrupt"),
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
    tool: str = Field(sa_column=_text())
    target: str = Field(sa_column=_text())
    arguments_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    arguments: dict[str, Any] = Field(sa_column=_json())
    preview: dict[str, Any] = Field(sa_column=_json())
    state: str = Field(sa_column=_text("pending"))
    decided_by: UUID | None = None
    decided_through: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_now())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, server_default=text("now() + interval '10 minutes'"))
    )
    decided_at: datetime | None = Field(default=None, sa_column=_moment())
    used_at: datetime | None = Field(default=None, sa_column=_moment())


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
    action: str = Field(sa_column=_text())
    target: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_now())
    detail: str | None = Field(default=None, sa_column=Column(Text))
    address: str | None = Field(default=None, sa_column=Column(Text))
    user_agent: str | None = Field(default=None, sa_column=Column(Text))
    client: str | None = Field(default=None, sa_column=Column(Text))


class ProviderKey(SQLModel, table=True):
    """A project's own key for a provider of models. ``sealed``: by ``server/vault.py``, which alone can open it.

    ``base_url``: for ``compatible`` the one address that it is sent to. ``checked_at``: when the provider accepted it,
    empty when it could not be asked.
    """

    __tablename__ = "provider_keys"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "provider"),
        _of_project(),
        _one_of("provider", "openai", "anthropic", "google", "groq", "mistral", "compatible"),
        CheckConstraint("length(hint) <= 4", name="hint_short"),
        CheckConstraint("(provider = 'compatible') = (base_url IS NOT NULL)", name="base_url_of_compatible"),
    )

    project_id: UUID
    id: UUID
    provider: str = Field(sa_column=_text())
    base_url: str | None = Field(default=None, sa_column=Column(Text))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hint: str = Field(sa_column=_text())
    created_by: UUID
    created_at: datetime = Field(sa_column=_now())
    checked_at: datetime | None = Field(default=None, sa_column=_moment())


class Agent(SQLModel, table=True):
    """What differs between the agents of a project. What is left empty is the project's, or the house's.

    ``tools``: the names of the only tools it may use, without any all that its runs' scopes allow. ``scopes``: what it
    lends (:meth:`db.principal.Principal.for_run`). ``limits``: :class:`db.agents.Limits`. The database itself makes an
    agent ``default`` with each project.
    """

    __tablename__ = "agents"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "name"),
        _of_project(),
    )

    project_id: UUID
    id: UUID
    name: str = Field(sa_column=_text())
    description: str = Field(sa_column=_text(""))
    instructions: str = Field(sa_column=_text(""))
    model: str | None = Field(default=None, sa_column=Column(Text))
    fallback_models: list[str] = Field(sa_column=_texts())
    model_parameters: dict[str, Any] = Field(sa_column=_json())
    tools: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    skills: list[str] = Field(sa_column=_texts())
    scopes: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    limits: dict[str, Any] = Field(sa_column=_json())
    created_at: datetime = Field(sa_column=_now())
    updated_at: datetime = Field(sa_column=_now())


class Thread(SQLModel, table=True):
    """A conversation."""

    __tablename__ = "threads"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "end_user_id", "external_id", postgresql_nulls_not_distinct=True),
        _of_project(),
        _parent("end_users", "end_user_id"),
        Index("threads_unnamed_idx", "project_id", "id", postgresql_where=text("name IS NULL")),
    )

    project_id: UUID
    id: UUID
    end_user_id: UUID | None = None
    external_id: str = Field(sa_column=_text())
    name: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    state: Any = Field(default=None, sa_column=Column(JSONB))
    state_set_by: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_now())
    updated_at: datetime = Field(sa_column=_now())


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
        _of_project(),
        _parent("threads", "thread_id"),
        _parent("end_users", "end_user_id"),
        ForeignKeyConstraint(
            ["project_id", "agent_id"], ["agents.project_id", "agents.id"], ondelete="SET NULL (agent_id)"
        ),
        _one_of("status", "queued", "running", "succeeded", "failed", "cancelled", "interrupted"),
        _one_of("on_disconnect", "continue", "cancel"),
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
        Index("runs_tree_idx", "project_id", "root_id", postgresql_where=text("root_id IS NOT NULL")),
        Index("runs_reserved_idx", "project_id", postgresql_where=text("reserved_usd IS NOT NULL")),
    )

    project_id: UUID
    id: UUID
    thread_id: UUID
    end_user_id: UUID | None = None
    external_id: str = Field(sa_column=_text())
    credential_id: UUID
    user_id: UUID
    scopes: list[str] = Field(sa_column=_texts())
    rights: dict[str, Any] = Field(sa_column=_json())
    depth: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    parent_id: UUID | None = None
    root_id: UUID | None = None
    agent: str = Field(sa_column=_text())
    agent_id: UUID | None = None
    model: str | None = Field(default=None, sa_column=Column(Text))
    status: str = Field(sa_column=_text("queued"))
    on_disconnect: str = Field(sa_column=_text("continue"))
    input: dict[str, Any] = Field(sa_column=_json())
    input_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    error_code: str | None = Field(default=None, sa_column=Column(Text))
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    requests: int = Field(sa_column=_count())
    tool_calls: int = Field(sa_column=_count())
    input_tokens: int = Field(sa_column=_count(BigInteger))
    output_tokens: int = Field(sa_column=_count(BigInteger))
    cost_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    limits: dict[str, Any] = Field(sa_column=_json())
    metered_messages: int = Field(sa_column=_count())
    metered_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default=text("0")))
    reserved_usd: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    last_seq: int = Field(sa_column=_count(BigInteger))
    lease_owner: UUID | None = None
    lease_epoch: int = Field(sa_column=_count())
    lease_expires_at: datetime | None = Field(default=None, sa_column=_moment())
    cancel_requested_at: datetime | None = Field(default=None, sa_column=_moment())
    seconds: float = Field(sa_column=Column(Float, nullable=False, server_default=text("600")))
    created_at: datetime = Field(sa_column=_now())
    started_at: datetime | None = Field(default=None, sa_column=_moment())
    deadline_at: datetime | None = Field(default=None, sa_column=_moment())
    ended_at: datetime | None = Field(default=None, sa_column=_moment())
    compacted_at: datetime | None = Field(default=None, sa_column=_moment())


class Message(SQLModel, table=True):
    """One message of a thread, in the order of ``position``; ``content`` is one pydantic-ai ModelMessage as JSON."""

    __tablename__ = "messages"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "thread_id", "position"),
        _parent("threads", "thread_id"),
        _parent("runs", "run_id"),
        Index(None, "project_id", "run_id"),
    )

    project_id: UUID
    id: UUID
    thread_id: UUID
    run_id: UUID
    end_user_id: UUID | None = None
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    role: str = Field(sa_column=_text())
    content: dict[str, Any] = Field(sa_column=_json())
    created_at: datetime = Field(sa_column=_now())


class RunEvent(SQLModel, table=True):
    """One canonical AG-UI event of a run, the bytes as they are sent (jsonb would not keep them)."""

    __tablename__ = "run_events"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "run_id", "seq"),
        _parent("runs", "run_id"),
    )

    project_id: UUID
    run_id: UUID
    seq: int = Field(sa_column=Column(BigInteger, nullable=False, autoincrement=False))
    end_user_id: UUID | None = None
    event: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=_now())


class RunStep(SQLModel, table=True):
    """One step that a run has finished: an answer of its model, or what one call of a tool came to, as JSON.

    ``seq``: the run's last event when it ended. Written by the run's own process only, under its lease.
    """

    __tablename__ = "run_steps"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "run_id", "name"),
        _parent("runs", "run_id"),
    )

    project_id: UUID
    run_id: UUID
    name: str = Field(sa_column=_text())
    end_user_id: UUID | None = None
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=_now())


class Budget(SQLModel, table=True):
    """The rate limit of a key or of a project: until when what was taken of it is paid for (:mod:`db.budgets`)."""

    __tablename__ = "budgets"

    subject: UUID = Field(primary_key=True)
    spent_until: datetime = Field(sa_column=Column(Timestamp, nullable=False, index=True))


class UsageMonth(SQLModel, table=True):
    """What a project, or one of its end users, has used in a month of UTC. ``subject``: the id of whichever it is.

    Kept by triggers on ``runs`` and by ``meter_run``. ``unpriced_requests``: answers of runs of which not every price
    is known, so that ``usd`` is not all of it.
    """

    __tablename__ = "usage_months"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "month", "subject"),
        _of_project(),
        _parent("end_users", "end_user_id"),
        Index(None, "project_id", "end_user_id"),
    )

    project_id: UUID
    month: date
    subject: UUID
    end_user_id: UUID | None = None
    messages: int = Field(sa_column=_count(BigInteger))
    usd: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default=text("0")))
    requests: int = Field(sa_column=_count(BigInteger))
    unpriced_requests: int = Field(sa_column=_count(BigInteger))
    input_tokens: int = Field(sa_column=_count(BigInteger))
    output_tokens: int = Field(sa_column=_count(BigInteger))


class File(SQLModel, table=True):
    """A file of a project: the row of the object ``{project_id}/{id}`` in the store, whose bytes never change.

    ``pending``: expected until ``expires_at``; ``ready``: there, and checked; ``lost``: the store has it no more;
    ``deleting``: gone for callers, its object goes next. At most one ready file of the same owner has a path.
    """

    __tablename__ = "files"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        _of_project(),
        _parent("end_users", "end_user_id"),
        _one_of("status", "pending", "ready", "lost", "deleting"),
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
    content_type: str = Field(sa_column=_text())
    sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    status: str = Field(sa_column=_text("pending"))
    temporary: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    expires_at: datetime | None = Field(default=None, sa_column=_moment())
    upload_id: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb"))
    )
    created_by: UUID
    credential_id: UUID
    run_id: UUID | None = None
    created_at: datetime = Field(sa_column=_now())
    updated_at: datetime = Field(sa_column=_now())


class ProjectStorage(SQLModel, table=True):
    """How much a project stores, kept by a trigger on ``files``; ``quota`` in bytes, without one the house's own."""

    __tablename__ = "project_storage"
    __table_args__ = (PrimaryKeyConstraint("project_id"), _of_project())

    project_id: UUID
    bytes: int = Field(sa_column=_count(BigInteger))
    files: int = Field(sa_column=_count(BigInteger))
    quota: int | None = Field(default=None, sa_column=Column(BigInteger))


class Component(SQLModel, table=True):
    """A name in a project's registry, and what searches look at: its newest version that may be installed, kept by
    ``refresh_component``. Without such a version (all yanked) ``latest_id`` is null and nothing finds it.

    ``embedding`` is of ``words``, made by ``embedding_model``; null until a job has made it.
    """

    __tablename__ = "components"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "name"),
        _of_project(),
        Index("components_search_idx", "search", postgresql_using="gin"),
        Index("components_name_trgm_idx", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )

    project_id: UUID
    id: UUID
    name: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    latest_id: UUID | None = None
    type: str = Field(sa_column=_text(""))
    title: str = Field(sa_column=_text(""))
    description: str = Field(sa_column=_text(""))
    words: str = Field(sa_column=_text(""))
    search: Any = Field(sa_column=Column(TSVECTOR, nullable=False, server_default=text("''::tsvector")))
    embedding: list[float] | None = Field(default=None, sa_column=Column(ARRAY(REAL), nullable=True))
    embedding_model: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_now())
    updated_at: datetime = Field(sa_column=_now())


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
        _parent("components", "component_id"),
        _one_of("status", "published", "deprecated", "yanked"),
        Index(None, "project_id", "component_id", "precedence"),
    )

    project_id: UUID
    id: UUID
    component_id: UUID
    version: str = Field(sa_column=_text())
    precedence: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    type: str = Field(sa_column=_text())
    title: str = Field(sa_column=_text())
    description: str = Field(sa_column=_text())
    words: str = Field(sa_column=_text())
    item: str = Field(sa_column=_text())
    props: str | None = Field(default=None, sa_column=Column(Text))
    state: str | None = Field(default=None, sa_column=Column(Text))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    status: str = Field(sa_column=_text("published"))
    reason: str = Field(sa_column=_text(""))
    created_by: UUID
    credential_id: UUID
    run_id: UUID | None = None
    created_at: datetime = Field(sa_column=_now())
    status_at: datetime = Field(sa_column=_now())


class ComponentBlob(SQLModel, table=True):
    """The content of a file of components: the object ``registry/{project_id}/{sha256}`` in the store, once a project
    however many versions have it. Its size counts against the project's quota."""

    __tablename__ = "component_blobs"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "sha256"),
        _of_project(),
        CheckConstraint("octet_length(sha256) = 32", name="sha256_whole"),
        CheckConstraint("size >= 0", name="size_known"),
    )

    project_id: UUID
    sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=_now())


class RegistrySource(SQLModel, table=True):
    """Where components of a project come from by themselves: a built ``manifest`` (registry.json, its items beside it),
    or the ``files`` of a repository under a forge's raw address. ``secret``: of its webhooks, sealed; without one they
    are refused."""

    __tablename__ = "registry_sources"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "url"),
        _of_project(),
        _one_of("kind", "manifest", "files"),
        Index(None, "id"),
    )

    project_id: UUID
    id: UUID
    url: str = Field(sa_column=_text())
    kind: str = Field(sa_column=_text())
    secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    secret_at: datetime | None = Field(default=None, sa_column=_moment())
    created_by: UUID
    credential_id: UUID
    created_at: datetime = Field(sa_column=_now())


class RegistrySync(SQLModel, table=True):
    """One time that a source was looked at, and what came of it. ``delivery``: the webhook's own name for itself, so
    that one that comes again is the same sync; null when somebody asked. ``superseded``: a later one took its place.

    ``changes`` and ``faults``: lists of small objects, the first of many.
    """

    __tablename__ = "registry_syncs"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "source_id", "delivery"),
        _parent("registry_sources", "source_id"),
        _one_of("state", "queued", "running", "succeeded", "failed", "superseded"),
        Index(None, "project_id", "source_id", "id"),
    )

    project_id: UUID
    id: UUID
    source_id: UUID
    delivery: str | None = Field(default=None, sa_column=Column(Text))
    state: str = Field(sa_column=_text("queued"))
    done: int = Field(sa_column=_count())
    total: int | None = Field(default=None, sa_column=Column(Integer))
    published: int = Field(sa_column=_count())
    unchanged: int = Field(sa_column=_count())
    changes: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    faults: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    error_code: str | None = Field(default=None, sa_column=Column(Text))
    error_message: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_now())
    started_at: datetime | None = Field(default=None, sa_column=_moment())
    ended_at: datetime | None = Field(default=None, sa_column=_moment())


class RegistryStaged(SQLModel, table=True):
    """An item that a sync has fetched and checked and not yet published; its contents are in the store. ``own``: what
    it needs of its registry. Here and not in memory, because there may be thousands."""

    __tablename__ = "registry_staged"
    __table_args__ = (PrimaryKeyConstraint("project_id", "sync_id", "name"), _parent("registry_syncs", "sync_id"))

    project_id: UUID
    sync_id: UUID
    name: str = Field(sa_column=_text())
    version_id: UUID
    component_id: UUID
    version: str | None = Field(default=None, sa_column=Column(Text))
    precedence: str | None = Field(default=None, sa_column=Column(Text))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    type: str = Field(sa_column=_text())
    title: str = Field(sa_column=_text())
    description: str = Field(sa_column=_text())
    words: str = Field(sa_column=_text())
    item: str = Field(sa_column=_text())
    props: str | None = Field(default=None, sa_column=Column(Text))
    state: str | None = Field(default=None, sa_column=Column(Text))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    sums: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    sizes: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
    own: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
