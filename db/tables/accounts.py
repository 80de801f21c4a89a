"""The tables of people with an account."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, moment, now, words


class User(SQLModel, table=True):
    """A person with an account. ``admin_at``: since when they are an administrator of the whole instance."""

    __tablename__ = "users"

    id: UUID = Field(primary_key=True)
    email: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    name: str = Field(sa_column=words(""))
    created_at: datetime = Field(sa_column=now())
    disabled_at: datetime | None = Field(default=None, sa_column=moment())
    admin_at: datetime | None = Field(default=None, sa_column=moment())


class SignInLink(SQLModel, table=True):
    """A one-time link to sign in with, and, with ``sign_up``, to get an account with. Opens ``next`` in the browser
    that asked for it. No role but the owner reads it: what it is about goes by the functions of migration 0060."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index(None, "expires_at"),)

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    browser_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    address: str = Field(sa_column=words())
    sign_up: bool
    next: str = Field(sa_column=words())
    created_at: datetime = Field(sa_column=now())
    expires_at: datetime = Field(sa_column=Column(Timestamp, nullable=False))
    used_at: datetime | None = Field(default=None, sa_column=moment())
