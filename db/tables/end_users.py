"""The tables of the users of projects' own products, and of how they say who they are."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, PrimaryKeyConstraint, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, now, of_project, one_of, texts, words


class EndUser(SQLModel, table=True):
    """A user of a project's own product, known by the name that ``issuer`` has for them: the one of their tokens, empty
    for the product's own server, and words with a tilde before them for what is no issuer (:mod:`db.end_users`)."""

    __tablename__ = "end_users"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "issuer", "external_id"),
        of_project(),
        Index("end_users_visitors_idx", "seen_at", postgresql_where=text("issuer = '~anonymous'")),
    )

    project_id: UUID
    id: UUID
    issuer: str = Field(sa_column=words(""))
    external_id: str = Field(sa_column=words())
    created_at: datetime = Field(sa_column=now())
    seen_at: datetime = Field(sa_column=now())


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
        of_project(),
        one_of("kind", "issuer", "hs256", "public_key", "userinfo", "none"),
        CheckConstraint("kind <> 'issuer' OR (issuer IS NOT NULL AND audience IS NOT NULL)", name="issuer_whole"),
        CheckConstraint("(kind = 'hs256') = (sealed IS NOT NULL)", name="secret_of_hs256"),
        CheckConstraint("(kind = 'public_key') = (public_key IS NOT NULL)", name="key_of_public_key"),
        CheckConstraint("kind <> 'userinfo' OR url IS NOT NULL", name="url_of_userinfo"),
    )

    project_id: UUID
    id: UUID
    kind: str = Field(sa_column=words())
    issuer: str | None = Field(default=None, sa_column=Column(Text))
    audience: str | None = Field(default=None, sa_column=Column(Text))
    url: str | None = Field(default=None, sa_column=Column(Text))
    public_key: str | None = Field(default=None, sa_column=Column(Text))
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    created_by: UUID
    created_at: datetime = Field(sa_column=now())


class EndUserToken(SQLModel, table=True):
    """A short-lived token of one end user. Read by ``authenticate`` alone."""

    __tablename__ = "end_user_tokens"

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE", index=True)
    scopes: list[str] = Field(sa_column=texts())
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(sa_column=Column(Timestamp, nullable=False, index=True))
