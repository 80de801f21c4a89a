"""The tables of what a project's agents are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Column, LargeBinary, PrimaryKeyConstraint, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from db.columns import json, moment, now, of_project, one_of, texts, words


class ProviderKey(SQLModel, table=True):
    """A project's own key for a provider of models. ``sealed``: by ``server/vault.py``, which alone can open it.

    ``base_url``: for ``compatible`` the one address that it is sent to. ``checked_at``: when the provider accepted it,
    empty when it could not be asked.
    """

    __tablename__ = "provider_keys"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "id"),
        UniqueConstraint("project_id", "provider"),
        of_project(),
        one_of("provider", "openai", "anthropic", "google", "groq", "mistral", "compatible"),
        CheckConstraint("length(hint) <= 4", name="hint_short"),
        CheckConstraint("(provider = 'compatible') = (base_url IS NOT NULL)", name="base_url_of_compatible"),
    )

    project_id: UUID
    id: UUID
    provider: str = Field(sa_column=words())
    base_url: str | None = Field(default=None, sa_column=Column(Text))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hint: str = Field(sa_column=words())
    created_by: UUID
    created_at: datetime = Field(sa_column=now())
    checked_at: datetime | None = Field(default=None, sa_column=moment())


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
        of_project(),
    )

    project_id: UUID
    id: UUID
    name: str = Field(sa_column=words())
    description: str = Field(sa_column=words(""))
    instructions: str = Field(sa_column=words(""))
    model: str | None = Field(default=None, sa_column=Column(Text))
    fallback_models: list[str] = Field(sa_column=texts())
    model_parameters: dict[str, Any] = Field(sa_column=json())
    tools: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    skills: list[str] = Field(sa_column=texts())
    scopes: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    limits: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=now())
    updated_at: datetime = Field(sa_column=now())
