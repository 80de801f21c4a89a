"""The keys with which a project pays its model providers. They are entered on a page by a person: no tool takes one,
and none gives one out.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import provider_keys
from db.errors import AppError, not_found
from db.scopes import Scope
from tools import roles
from tools.contract import Caller, ProjectId, tool
from tools.preview import Preview
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

Provider: TypeAlias = Annotated[
    Literal["openai", "anthropic", "google", "groq", "mistral", "compatible"],
    Field(description="compatible: the OpenAI-compatible endpoint at the project's base_url."),
]


class ProviderKey(BaseModel):
    provider: Provider
    base_url: Untrusted[str] | None = Field(default=None, description="The one address that it is sent to.")
    entered_at: datetime
    checked_at: datetime | None = Field(default=None, description="When the provider accepted it; absent: not checked.")


class ProviderKeys(BaseModel):
    keys: list[ProviderKey]
    url: Trusted[str] = Field(description="Page on which a person enters, replaces and deletes keys.")


class KeyPage(BaseModel):
    provider: Provider
    url: Trusted[str] = Field(description="Page for the user to open and enter the key on.")
    entered_at: datetime | None = Field(default=None, description="When the present key was entered; absent: not yet.")


class DeletedKey(BaseModel):
    id: UUID
    provider: Provider
    deleted: Literal[True] = True


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_provider_keys(call: Caller, project_id: ProjectId) -> ProviderKeys:
    """List which model providers the project has keys for. The keys themselves are never shown."""
    async with call.transaction() as connection:
        await roles.readable(connection, project_id)
        rows = await provider_keys.latest(connection, project_id)
    return ProviderKeys(keys=[_shown(row) for row in rows], url=call.services.pages.provider_keys(project_id))


async def _now(call: Caller, saved: KeyPage, *, replayed: bool, project_id: UUID, provider: str) -> KeyPage:
    """As it is when the answer goes out: a person may have entered the key since it was saved."""
    async with call.services.database.transaction(call.principal, project_id, read_only=True) as connection:
        row = await _one(connection, project_id, provider)
    return saved.model_copy(update={"entered_at": row and row["created_at"]})


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    after=_now,
    opens="url",
)
async def set_provider_key(call: Caller, project_id: ProjectId, provider: Provider) -> KeyPage:
    """Get the page on which the user enters the project's key for a provider. Never ask for the key in the chat.
    Call it again, or list_provider_keys, to see whether it was entered. Needs the role owner or admin."""
    async with call.transaction() as connection:
        project = await roles.administered(connection, project_id)
        if provider == "compatible" and project["base_url"] is None:
            raise AppError(
                "base_url_missing",
                409,
                "The project has no base_url, so there is no endpoint to enter a key for.",
                "Set base_url with update_project first, or name the provider.",
                details={"next_tool": "update_project"},
            )
    return KeyPage(provider=provider, url=call.services.pages.provider_keys(project_id, provider))


async def _deletion(call: Caller, project_id: UUID, provider: str) -> Preview:
    async with call.transaction() as connection:
        project = await roles.administered(connection, project_id)
        if await _one(connection, project_id, provider) is None:
            raise _no_key()
    effect = f"This deletes the key for {provider} of project {project_id}; runs that need it fail from then on."
    return Preview(effect, {"Project": project["name"], "Provider": provider})


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_deletion,
    target="provider",
)
async def delete_provider_key(call: Caller, project_id: ProjectId, provider: Provider) -> DeletedKey:
    """Delete the project's key for a provider, for good. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await roles.administered(connection, project_id)
        key_id = await provider_keys.delete(connection, project_id, provider)
    if key_id is None:
        raise _no_key()
    return DeletedKey(id=key_id, provider=provider)


def _shown(row: asyncpg.Record) -> ProviderKey:
    return ProviderKey(
        provider=row["provider"],
        base_url=row["base_url"],
        entered_at=row["created_at"],
        checked_at=row["checked_at"],
    )


async def _one(connection: Connection, project_id: UUID, provider: str) -> asyncpg.Record | None:
    rows = await provider_keys.latest(connection, project_id)
    return next((row for row in rows if row["provider"] == provider), None)


def _no_key() -> AppError:
    return not_found("provider_key", "list_provider_keys shows which there are.", {"next_tool": "list_provider_keys"})
