"""The table of what callers prove themselves with."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Column, Index, LargeBinary, Text, Uuid, text
from sqlmodel import Field, SQLModel

from db.columns import moment, now, one_of, parent, texts, words


class Credential(SQLModel, table=True):
    """A key (``secret``; ``feed`` for installing from one project's registry; ``publishable`` for browsers, on pages of
    ``origins``), or a person's session on the pages (``session``), or the link that opens one, once (``link``). Only
    the SHA-256 of the token is kept; ``hint`` is its first characters, to tell keys apart. What an OAuth client may do
    for a user (``oauth``), and an end user by the key ``parent_id`` (``end_user``), has no token of its own but those
    of ``db.tables.oauth`` and of ``EndUserToken``, and stays the same when they change.

    ``project_id`` and ``project_ids``, at most one of which is set, have no foreign key: a key bound to a deleted
    project reaches nothing, but can still fetch the saved answers of its own writes, the deletion's among them.

    ``identity_id``: the account at an issuer through which it came about. While that is suspended, so is a grant: it
    has expired, and ``resumes_until`` is when it will have expired once the person has signed in there again.
    """

    __tablename__ = "credentials"
    __table_args__ = (
        parent("end_users", "end_user_id"),
        one_of("kind", "secret", "link", "session", "feed", "oauth", "publishable", "end_user"),
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
    kind: str = Field(sa_column=words("secret"))
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    project_id: UUID | None = None
    project_ids: list[UUID] | None = Field(default=None, sa_column=Column(ARRAY(Uuid)))
    end_user_id: UUID | None = None
    client_id: UUID | None = Field(default=None, foreign_key="oauth_clients.id", ondelete="CASCADE", index=True)
    parent_id: UUID | None = Field(default=None, foreign_key="credentials.id", ondelete="CASCADE", index=True)
    origins: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    identity_id: UUID | None = Field(default=None, foreign_key="identities.id", ondelete="SET NULL", index=True)
    audience: str | None = Field(default=None, sa_column=Column(Text))
    name: str = Field(sa_column=words(""))
    hint: str = Field(sa_column=words())
    token_hash: bytes | None = Field(default=None, sa_column=Column(LargeBinary, unique=True))
    scopes: list[str] = Field(sa_column=texts())
    read_only: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime | None = Field(default=None, sa_column=moment())
    resumes_until: datetime | None = Field(default=None, sa_column=moment())
    revoked_at: datetime | None = Field(default=None, sa_column=moment())
