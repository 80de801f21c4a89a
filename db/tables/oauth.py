"""The tables of the authorization server. Tokens, codes and secrets are kept as SHA-256 alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, CheckConstraint, Column, Index, Integer, LargeBinary, Text, Uuid, text
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, moment, now, one_of, texts, words


def _hash() -> Column[bytes]:
    return Column(LargeBinary, primary_key=True)


def _flag() -> Column[bool]:
    return Column(Boolean, nullable=False, server_default=text("false"))


def _expiry() -> Column[datetime]:
    return Column(Timestamp, nullable=False, index=True)


def _projects() -> Column[list[UUID]]:
    return Column(ARRAY(Uuid), nullable=True)


def _identity() -> Any:
    """The account at an issuer through which the person who answered is signed in."""
    return Field(default=None, foreign_key="identities.id", ondelete="SET NULL", index=True)


class OAuthClient(SQLModel, table=True):
    """A program that asks for tokens.

    ``house``: the command line; ``registered``: by the operator; ``dynamic``: by itself (RFC 7591); ``document``: by
    the document at its ``client_id``, believed until ``fresh_until``. With ``user_id`` it is a service account, acts as
    that user with at most ``scopes``, and in ``project_id`` alone if that is set.
    """

    __tablename__ = "oauth_clients"
    __table_args__ = (
        one_of("kind", "house", "registered", "dynamic", "document"),
        one_of("auth_method", "none", "client_secret_basic", "client_secret_post"),
        CheckConstraint("(auth_method = 'none') = (secret_hash IS NULL)", name="secret_where_used"),
    )

    id: UUID = Field(primary_key=True)
    client_id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    kind: str = Field(sa_column=words())
    name: str = Field(sa_column=words())
    uri: str | None = Field(default=None, sa_column=Column(Text))
    redirect_uris: list[str] = Field(sa_column=texts())
    grant_types: list[str] = Field(sa_column=texts())
    auth_method: str = Field(sa_column=words("none"))
    secret_hash: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    scopes: list[str] = Field(sa_column=texts())
    user_id: UUID | None = Field(default=None, foreign_key="users.id", ondelete="CASCADE")
    project_id: UUID | None = Field(default=None, foreign_key="projects.id", ondelete="CASCADE")
    may_introspect: bool = Field(sa_column=_flag())
    created_at: datetime = Field(sa_column=now())
    used_at: datetime | None = Field(default=None, sa_column=moment())
    fresh_until: datetime | None = Field(default=None, sa_column=moment())


class OAuthConsent(SQLModel, table=True):
    """What a person last allowed a client. ``project_ids``: ``NULL`` for all of theirs."""

    __tablename__ = "oauth_consents"

    user_id: UUID = Field(primary_key=True, foreign_key="users.id", ondelete="CASCADE")
    client_id: UUID = Field(primary_key=True, foreign_key="oauth_clients.id", ondelete="CASCADE")
    scopes: list[str] = Field(sa_column=texts())
    project_ids: list[UUID] | None = Field(default=None, sa_column=_projects())
    read_only: bool = Field(sa_column=_flag())
    updated_at: datetime = Field(sa_column=now())


class OAuthCode(SQLModel, table=True):
    """An authorization code. ``request_id``: of the one answer to the one request; ``challenge``: PKCE's, S256;
    ``credential_id``: what it was redeemed for."""

    __tablename__ = "oauth_codes"

    code_hash: bytes = Field(sa_column=_hash())
    request_id: UUID = Field(unique=True)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    client_id: UUID = Field(foreign_key="oauth_clients.id", ondelete="CASCADE")
    redirect_uri: str = Field(sa_column=words())
    challenge: str = Field(sa_column=words())
    scopes: list[str] = Field(sa_column=texts())
    project_ids: list[UUID] | None = Field(default=None, sa_column=_projects())
    read_only: bool = Field(sa_column=_flag())
    audience: str = Field(sa_column=words())
    expires_at: datetime = Field(
        sa_column=Column(Timestamp, nullable=False, index=True, server_default=text("now() + interval '60 seconds'"))
    )
    credential_id: UUID | None = None
    identity_id: UUID | None = _identity()


class OAuthDevice(SQLModel, table=True):
    """A device that waits for a person to type its code on a page (RFC 8628)."""

    __tablename__ = "oauth_devices"
    __table_args__ = (one_of("state", "pending", "approved", "denied"),)

    device_hash: bytes = Field(sa_column=_hash())
    user_code_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    client_id: UUID = Field(foreign_key="oauth_clients.id", ondelete="CASCADE")
    user_id: UUID | None = Field(default=None, foreign_key="users.id", ondelete="CASCADE")
    scopes: list[str] = Field(sa_column=texts())
    project_ids: list[UUID] | None = Field(default=None, sa_column=_projects())
    read_only: bool = Field(sa_column=_flag())
    audience: str = Field(sa_column=words())
    state: str = Field(sa_column=words("pending"))
    interval_seconds: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("5")))
    polled_at: datetime | None = Field(default=None, sa_column=moment())
    expires_at: datetime = Field(sa_column=_expiry())
    credential_id: UUID | None = None
    identity_id: UUID | None = _identity()


class OAuthAccessToken(SQLModel, table=True):
    """A token for an hour, of a credential of the kind ``oauth``; ``scopes`` are at most the credential's."""

    __tablename__ = "oauth_access_tokens"

    token_hash: bytes = Field(sa_column=_hash())
    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE", index=True)
    scopes: list[str] = Field(sa_column=texts())
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(sa_column=_expiry())


class OAuthRefreshToken(SQLModel, table=True):
    """One link of a lineage. ``successor_hash``: of the next one, which is made of this token and ``salt``."""

    __tablename__ = "oauth_refresh_tokens"
    __table_args__ = (
        Index("oauth_refresh_tokens_salted_idx", "successor_hash", postgresql_where=text("salt IS NOT NULL")),
    )

    token_hash: bytes = Field(sa_column=_hash())
    credential_id: UUID = Field(foreign_key="credentials.id", ondelete="CASCADE", index=True)
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(sa_column=_expiry())
    used_at: datetime | None = Field(default=None, sa_column=moment())
    salt: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    successor_hash: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
