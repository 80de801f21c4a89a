"""The tables of accounts at issuers: whom of ours an issuer vouches for, and sign-ins that are on their way there."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, moment, now, one_of, words


class Identity(SQLModel, table=True):
    """An account at an issuer that opens one of ours. ``id`` is made of issuer and subject (:mod:`db.identities`).

    ``email``: what the issuer said last, for people to read; nothing is found by it. ``token`` is sealed, and what the
    issuer is asked with whether the account still is one: ``refresh`` or ``access``. Suspended: the issuer said no.
    """

    __tablename__ = "identities"
    __table_args__ = (
        UniqueConstraint("issuer", "subject"),
        one_of("token_kind", "refresh", "access"),
        CheckConstraint("(token IS NULL) = (token_kind IS NULL)", name="token_of_a_kind"),
        Index(None, "user_id"),
        Index(None, "checked_at"),
    )

    id: UUID = Field(primary_key=True)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    provider: str = Field(sa_column=words())
    issuer: str = Field(sa_column=words())
    subject: str = Field(sa_column=words())
    email: str = Field(sa_column=words())
    token_kind: str | None = Field(default=None, sa_column=Column(Text))
    token: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    created_at: datetime = Field(sa_column=now())
    used_at: datetime = Field(sa_column=now())
    checked_at: datetime = Field(sa_column=now())
    suspended_at: datetime | None = Field(default=None, sa_column=moment())


class SignInFlow(SQLModel, table=True):
    """Somebody who was sent to an issuer and has not come back. ``user_id``: whose account the other one is to be
    connected with; ``consent``: the issuer was told to ask the person again."""

    __tablename__ = "sign_in_flows"
    __table_args__ = (Index(None, "expires_at"),)

    state_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    browser_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    provider: str = Field(sa_column=words())
    next: str = Field(sa_column=words())
    consent: bool
    user_id: UUID | None = Field(default=None, foreign_key="users.id", ondelete="CASCADE")
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(sa_column=Column(Timestamp, nullable=False))
