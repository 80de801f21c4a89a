"""The component registry of a project: items in shadcn's registry format, versioned, for people's code and agents.

A version never changes once it is published. What may be said about it later is its status: ``deprecated`` still
installs and says why not to; ``yanked`` is found by nobody who does not name that very version, as on crates.io.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from db import components
from db.aside import aside
from db.errors import AppError, not_found
from db.scopes import Scope
from tools import component_reading, publishing
from tools.component_item import TYPES, Item, checked
from tools.contract import Call, Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, cut, from_cursor
from tools.preview import Preview
from tools.result import USUAL_BYTES
from tools.trust import Trusted, Untrusted
from tools.versions import LATEST, Version, WantedVersion

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

COMPONENT_TEMPLATE: Final = "innkeeper://projects/{project_id}/components/{name}"
SHORT: Final = 160
"""Characters of a description in a list."""


def _short(most: int) -> AfterValidator:
    """A bound that is told when it is broken: in the schema it would cost every listing."""

    def check(text: str) -> str:
        if len(text) > most:
            raise ValueError(f"must be at most {most} characters long")
        if "\x00" in text:
            raise ValueError("must not contain a NUL character")
        return text

    return AfterValidator(check)


def _type(text: str) -> str:
    if text not in TYPES:
        raise ValueError(f"must be one of {', '.join(TYPES)}")
    return text


Name: TypeAlias = Annotated[str, Field(description="Its name."), _short(80)]
Words: TypeAlias = Annotated[str, Field(description="Name or words."), _short(200)]
Type: TypeAlias = Annotated[str, Field(description="Such as registry:ui."), AfterValidator(_type)]
FilePath: TypeAlias = Annotated[str, Field(description="A path among its files; item.json: the item."), _short(512)]
Schema: TypeAlias = Annotated[dict[str, Any], Field(description="JSON Schema.")]
Status: TypeAlias = Literal["published", "deprecated", "yanked"]
ThisVersion: TypeAlias = Annotated[Version, Field(description="In full.")]
WantedStatus: TypeAlias = Annotated[Status, Field(description="Yanked: no longer found.")]
Reason: TypeAlias = Annotated[str, Field(description="Why."), _short(500)]


class ComponentSummary(BaseModel):
    id: UUID
    name: Trusted[str]
    type: Trusted[str]
    title: Untrusted[str]
    description: Untrusted[str]
    version: Trusted[str]
    status: Status


class ComponentPage(BaseModel):
    components: list[ComponentSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class PublishedComponent(BaseModel):
    id: UUID
    name: Trusted[str]
    version: Trusted[str]
    outcome: Literal["published", "unchanged"] = Field(description="unchanged: the same was there already.")
    hash: Trusted[str]
    published_at: datetime


class ComponentStatus(BaseModel):
    id: UUID
    name: Trusted[str]
    version: Trusted[str]
    status: Status
    reason: Untrusted[str]


@tool(Scope.registry_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def search_components(
    call: Caller,
    project_id: ProjectId,
    query: Words = "",
    type: Type | None = None,
    cursor: Cursor = None,
) -> ComponentPage:
    """Find UI components and other registry items, best first."""
    meaning = await call.services.meanings.of(query) if query.strip() else None
    search = components.Search(
        query,
        type,
        vector=meaning and meaning.vector,
        model=meaning and meaning.model,
        after=from_cursor(cursor),
        limit=DEFAULT_ROWS + 1,
    )
    async with call.transaction() as connection:
        rows = await components.search(connection, project_id, search)
        if not rows and await components.registry(connection, project_id) is None:
            raise not_found("project")
    shown, more = cut(rows, DEFAULT_ROWS, _summary)
    return ComponentPage(components=shown, next_cursor=more)


@tool(
    Scope.registry_read,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    link=COMPONENT_TEMPLATE,
)
async def get_component(
    call: Caller,
    project_id: ProjectId,
    name: Name,
    version: WantedVersion = LATEST,
    file: FilePath | None = None,
    cursor: Cursor = None,
) -> component_reading.Component:
    """Read a component, with the props schema to render it by, or the text of one of its files."""
    async with call.transaction() as connection:
        row = await component_at(connection, project_id, name, version)
        others = await components.versions(connection, row["component_id"], component_reading.MOST_VERSIONS)
    if file is None:
        return component_reading.described(row, name, others, USUAL_BYTES)
    return await component_reading.with_file(call.services.store, row, name, file, cursor, USUAL_BYTES)


async def _prepared(
    call: Call,
    project_id: UUID,
    item: dict[str, Any],
    version: str | None,
    props: dict[str, Any] | None,
    state: dict[str, Any] | None,
) -> Item:
    async with call.services.database.transaction(call.principal, project_id) as connection:
        registry = await publishing.writable_registry(connection, project_id)
    own = publishing.own_addresses(project_id, registry.namespace, call.services.pages.base())
    made = await aside(lambda: checked(item, version=version, props=props, state=state, own=own))
    await publishing.store_contents(call.services, call.principal, project_id, made)
    return made


async def _publication(
    call: Call, project_id: UUID, item: dict[str, Any], version: str | None, **_schemas: object
) -> Preview | None:
    async with call.transaction() as connection:
        registry = await publishing.writable_registry(connection, project_id)
    if not registry.public:
        return None
    size = len(item.get("files", ()))
    return Preview(
        f"This publishes a component with {size} file{'' if size == 1 else 's'} in the public registry of project"
        f" {project_id}, where anybody may install it. It cannot be changed afterwards, only deprecated or yanked.",
        {"Project": registry.name, "Component": f"{item.get('name')} {version or '(next version)'}"},
    )


@tool(
    Scope.registry_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=True,
    preview=_publication,
    before=_prepared,
)
async def publish_component(
    call: Caller,
    project_id: ProjectId,
    item: Annotated[dict[str, Any], Field(description="A shadcn registry-item.json with file contents.")],
    version: Annotated[str | None, Field(description="Default: next patch.")] = None,
    props: Schema | None = None,
    state: Schema | None = None,
) -> PublishedComponent:
    """Publish a version of a component. It never changes afterwards."""
    made: Item = call.found
    async with call.transaction() as connection:
        at = ("item", "registryDependencies")
        done = await publishing.publish(connection, call.principal, project_id, made, call.services.storage.quota_bytes)
        await publishing.require_own(connection, project_id, made.own, at)
        await publishing.say_new(connection, call.services)
    outcome: Any = done.outcome
    return PublishedComponent(
        id=done.id,
        name=made.name,
        version=done.version,
        outcome=outcome,
        hash=component_reading.shown_hash(made.hash),
        published_at=done.published_at,
    )


async def _standing(call: Call, project_id: UUID, name: str, version: str, status: str, reason: str) -> Preview | None:
    async with call.transaction() as connection:
        registry = await publishing.writable_registry(connection, project_id)
        row = await component_at(connection, project_id, name, version)
    if not registry.public:
        return None
    effect = f"This makes a version {status} in the public registry of project {project_id}."
    return Preview(effect, {"Project": registry.name, "Component": f"{name} {row['version']}", "Reason": reason})


@tool(
    Scope.registry_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=True,
    preview=_standing,
    target="name",
    link=COMPONENT_TEMPLATE,
)
async def set_component_status(
    call: Caller, project_id: ProjectId, name: Name, version: ThisVersion, status: WantedStatus, reason: Reason = ""
) -> ComponentStatus:
    """Deprecate or yank a version, or undo it. Yanked ones install only by exact version."""
    async with call.transaction() as connection:
        await publishing.writable_registry(connection, project_id)
        row = await component_at(connection, project_id, name, version)
        await components.set_status(connection, row["id"], row["component_id"], status, reason)
    return ComponentStatus(id=row["id"], name=name, version=row["version"], status=status, reason=reason)


async def component_at(connection: Connection, project_id: UUID, name: str, version: str) -> asyncpg.Record:
    """The version of a component that is asked for. Raises ``AppError`` 404."""
    row = await components.at(connection, project_id, name, publishing.selection(version))
    if row is not None:
        return row
    if await components.registry(connection, project_id) is None:
        raise not_found("project")
    if version != LATEST and await components.at(connection, project_id, name, publishing.selection(LATEST)):
        raise AppError(
            "version_not_found",
            404,
            f"This component has no version {version}.",
            "Leave version out for the newest (get_component), which lists the others.",
            details={"arguments": [{"do": "drop", "at": "version"}]},
        )
    raise not_found(
        "component",
        "Find what there is (search_components) and use a name from there.",
        {"next_tool": "search_components"},
    )


def _summary(row: asyncpg.Record) -> ComponentSummary:
    values = {name: row[name] for name in ComponentSummary.model_fields}
    if len(row["description"]) > SHORT:
        values["description"] = row["description"][: SHORT - 1] + "…"
    return ComponentSummary(**values)
