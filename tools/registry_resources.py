"""The registry as MCP resources: what an agent renders from, each component with its schemas, and the files of each.

``innkeeper://projects/{project_id}/components`` is the place to begin: everything there is, with the name to render by
and the JSON Schema of the props to render with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import BaseModel, Field

from db import components
from db.components import Search
from db.errors import not_found
from db.scopes import Scope
from tools import component_reading, publishing
from tools.contract import Caller, ProjectId
from tools.inline import decoded
from tools.pages import cut
from tools.registry import COMPONENT_TEMPLATE, component_at
from tools.resources import Document, Member, resource
from tools.result import MOST_BYTES, NOTE_BYTES
from tools.trust import Trusted, Untrusted, UntrustedSchema
from tools.versions import LATEST

if TYPE_CHECKING:
    import asyncpg

    from db.principal import Principal
    from tools.ports import Services

ALL: Final = "innkeeper://projects/{project_id}/components"
MOST: Final = 200
LONG: Final = 6_000
"""Bytes of a schema that stands for itself: the component has it."""


class Renderable(BaseModel):
    """A component as an agent needs it to render one: by ``name``, with what ``props`` describes."""

    id: UUID
    name: Trusted[str]
    version: Trusted[str]
    type: Trusted[str]
    title: Untrusted[str]
    description: Untrusted[str]
    props: UntrustedSchema | None
    state: UntrustedSchema | None


class Renderables(BaseModel):
    components: list[Renderable]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass to search_components for more.")


async def _only(
    services: Services, caller: Principal, project_id: UUID, after: str | None, _limit: int
) -> list[Member]:
    """One of it for a project that has components."""
    if after is not None:
        return []
    async with services.database.transaction(caller, project_id) as connection:
        names = await components.page(connection, "", 1)
    return [Member({}, "Components", "application/json", "all") for _name in names]


@resource(ALL, Scope.registry_read, rest_from="search_components", members=_only, held_by=components.holding)
async def component_list(call: Caller, project_id: ProjectId) -> Renderables:
    """The components of a project to render from: names, and the JSON Schemas of their props and state."""
    async with call.transaction() as connection:
        if await components.registry(connection, project_id) is None:
            raise not_found("project")
        rows = await components.search(connection, project_id, Search(limit=MOST + 1))
    shown, more = cut(rows, MOST, _renderable)
    return Renderables(components=shown, next_cursor=more)


async def _shelved(
    services: Services, caller: Principal, project_id: UUID, after: str | None, limit: int
) -> list[Member]:
    async with services.database.transaction(caller, project_id) as connection:
        names = await components.page(connection, after or "", limit)
    return [Member({"name": name}, name, "application/json", name) for name in names]


async def _names(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, _known: Mapping[str, str]
) -> list[str]:
    async with services.database.transaction(caller, project_id) as connection:
        return await components.beginning_with(connection, typed, limit)


async def _versions(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, known: Mapping[str, str]
) -> list[str]:
    async with services.database.transaction(caller, project_id) as connection:
        row = await components.at(connection, project_id, known.get("name", ""), publishing.selection(None))
        rows = await components.versions(connection, row["component_id"], limit) if row is not None else []
    return [row["version"] for row in rows if row["version"].startswith(typed)]


async def _files(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, known: Mapping[str, str]
) -> list[str]:
    async with services.database.transaction(caller, project_id) as connection:
        row = await components.at(connection, project_id, known.get("name", ""), publishing.selection(None))
    files = json.loads(row["item"]).get("files", ()) if row is not None else ()
    return [file["path"] for file in files if file["path"].startswith(typed)][:limit]


@resource(
    COMPONENT_TEMPLATE,
    Scope.registry_read,
    rest_from="get_component",
    members=_shelved,
    held_by=components.holding,
    completes={"name": _names},
)
async def component(call: Caller, project_id: ProjectId, name: str) -> component_reading.Component:
    """A component in its newest version: its schemas, files and dependencies."""
    return await _described(call, project_id, name, LATEST)


@resource(
    f"{COMPONENT_TEMPLATE}/versions/{{version}}",
    Scope.registry_read,
    rest_from="get_component",
    completes={"name": _names, "version": _versions},
)
async def component_version(
    call: Caller, project_id: ProjectId, name: str, version: str
) -> component_reading.Component:
    """A version of a component, or the newest of a range."""
    return await _described(call, project_id, name, version)


@resource(
    f"{COMPONENT_TEMPLATE}/files/{{+file}}",
    Scope.registry_read,
    mime_type="text/plain",
    rest_from="get_component",
    completes={"name": _names, "file": _files},
)
async def component_file(call: Caller, project_id: ProjectId, name: str, file: str) -> component_reading.Component:
    """A file of a component's newest version."""
    row = await _row(call, project_id, name, LATEST)
    data = await component_reading.content(call.services.store, row, file)
    if len(data) <= MOST_BYTES - NOTE_BYTES and decoded(data, whole=True) is not None:
        return Document(data, "text/plain", text=True)  # type: ignore[return-value]  # its bytes instead of the model
    return await component_reading.with_file(call.services.store, row, name, file, None, MOST_BYTES)


async def _row(call: Caller, project_id: UUID, name: str, version: str) -> asyncpg.Record:
    try:
        publishing.selection(version)
    except ValueError:
        raise not_found("component", "Use a version that get_component shows.") from None
    if "\x00" in name:
        raise not_found("component", "Use a name that search_components shows.")
    async with call.transaction() as connection:
        return await component_at(connection, project_id, name, version)


async def _described(call: Caller, project_id: UUID, name: str, version: str) -> component_reading.Component:
    row = await _row(call, project_id, name, version)
    async with call.transaction() as connection:
        others = await components.versions(connection, row["component_id"], component_reading.MOST_VERSIONS)
    return component_reading.described(row, name, others, MOST_BYTES)


def _renderable(row: asyncpg.Record) -> Renderable:
    schemas: dict[str, Any] = {
        kind: json.loads(row[kind]) if row[kind] is not None and len(row[kind]) <= LONG else None
        for kind in ("props", "state")
    }
    texts = {name: row[name] for name in ("id", "name", "version", "type", "title", "description")}
    return Renderable(**texts, **schemas)
