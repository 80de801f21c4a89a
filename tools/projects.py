"""Projects: the tenants of the house. A project holds the settings its agents run with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import projects
from db.errors import AppError, not_found
from db.ids import uuid7
from db.scopes import Scope
from tools.changes import wanted
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.project_settings import (
    LOOSER,
    Approvals,
    BaseUrl,
    InputTokens,
    Instructions,
    Model,
    ModelParameters,
    Name,
    PromptOverride,
    RegistryNamespace,
    RegistryPublic,
    RetentionDays,
    ToolCalls,
    check_model,
    instructions_part,
)
from tools.resources import resource
from tools.result import MOST_BYTES, USUAL_BYTES, MaxBytes
from tools.roles import administered, needs_administrator, owned
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

Clearable: TypeAlias = Literal["model", "base_url", "max_input_tokens", "model_parameters", "retention_days"]


class ProjectSummary(BaseModel):
    id: UUID
    name: Untrusted[str]
    role: Literal["owner", "admin", "member", "viewer"]
    created_at: datetime


class ProjectPage(BaseModel):
    projects: list[ProjectSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class Project(BaseModel):
    id: UUID
    name: Untrusted[str]
    instructions: Untrusted[str]
    model: Untrusted[str] | None
    base_url: Untrusted[str] | None
    max_input_tokens: int | None
    tool_call_limit: int
    allow_prompt_override: bool
    model_parameters: Trusted[dict[str, Any]]
    approvals: Literal["always", "when_new", "never"] = Field(validation_alias="approval_policy")
    registry_public: bool
    registry_namespace: Trusted[str]
    retention_days: int | None
    created_at: datetime
    updated_at: datetime
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when instructions go on.")


class DeletedProject(BaseModel):
    id: UUID
    deleted: Literal[True] = True


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_projects(call: Caller, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None) -> ProjectPage:
    """List the projects the caller is a member of, newest first. Start here to find a project id."""
    before = from_cursor(cursor)
    async with call.transaction() as connection:
        rows = await projects.page(
            connection, call.principal.user_id, only=call.principal.project_id, before=before, limit=limit + 1
        )
    shown, more = cut(rows, limit, lambda row: ProjectSummary(**row))
    return ProjectPage(projects=shown, next_cursor=more)


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_project(
    call: Caller, project_id: ProjectId, cursor: Cursor = None, max_bytes: MaxBytes = USUAL_BYTES
) -> Project:
    """Read a project with all its settings. Long instructions come in parts."""
    row = await projects.read(call.services.database, call.principal, project_id)
    if row is None:
        raise not_found("project")
    return _shown(row, cursor, max_bytes)


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=False,
    account_wide=True,
    rest_from="get_project",
)
async def create_project(
    call: Caller,
    name: Name,
    instructions: Instructions = "",
    model: Model | None = None,
    base_url: BaseUrl | None = None,
) -> Project:
    """Create a project owned by the caller. Use before any tool that needs a project id."""
    _check_base_url(call, base_url)
    if model is not None:
        check_model(model, base_url)
    project_id = uuid7()
    settings = {"name": name, "instructions": instructions, "model": model, "base_url": base_url}
    async with call.transaction() as connection:
        await projects.insert(connection, project_id, call.principal.user_id, settings)
        row = await projects.fetch(connection, project_id)
    if row is None:
        raise not_found("project")
    return _shown(row)


async def _loosening(
    call: Caller,
    project_id: UUID,
    approvals: str | None,
    registry_public: bool | None,
    retention_days: int | None,
    **_changes: object,
) -> Preview:
    async with call.transaction() as connection:
        row = await administered(connection, project_id)
    effects = []
    if approvals in LOOSER:
        effects.append(f"destructive and outward tools in project {project_id} {LOOSER[approvals]}")
    if registry_public:
        effects.append(f"anybody may read and install every component of project {project_id}")
    if retention_days:
        effects.append(f"threads of project {project_id} that were not used for {retention_days} days are deleted")
    return Preview(f"After this, {' and '.join(effects)}.", {"Project": row["name"]})


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    rest_from="get_project",
    preview=_loosening,
    asks_when=lambda given: (
        given.get("approvals") in LOOSER or bool(given.get("registry_public")) or bool(given.get("retention_days"))
    ),
)
async def update_project(
    call: Caller,
    project_id: ProjectId,
    name: Name | None = None,
    instructions: Instructions | None = None,
    model: Model | None = None,
    base_url: BaseUrl | None = None,
    max_input_tokens: InputTokens | None = None,
    tool_call_limit: ToolCalls | None = None,
    allow_prompt_override: PromptOverride | None = None,
    model_parameters: ModelParameters | None = None,
    approvals: Approvals | None = None,
    registry_public: RegistryPublic | None = None,
    registry_namespace: RegistryNamespace | None = None,
    retention_days: RetentionDays | None = None,
    clear: Annotated[list[Clearable], Field(description="Settings to put back to their default.")] = [],  # noqa: B006  never changed
) -> Project:
    """Change settings of a project; what is left out stays as it is. Needs the role owner or admin."""
    given: dict[str, Any] = {
        "name": name,
        "instructions": instructions,
        "model": model,
        "base_url": base_url,
        "max_input_tokens": max_input_tokens,
        "tool_call_limit": tool_call_limit,
        "allow_prompt_override": allow_prompt_override,
        "model_parameters": model_parameters and model_parameters.model_dump(exclude_none=True),
        "approvals": approvals,
        "registry_public": registry_public,
        "registry_namespace": registry_namespace,
        "retention_days": retention_days,
    }
    changes = wanted(given, clear, {"model_parameters": {}})
    if "approvals" in changes:
        changes["approval_policy"] = changes.pop("approvals")
    _check_base_url(call, base_url)
    async with call.transaction() as connection:
        changed = await projects.update(connection, project_id, changes)
        row = await projects.fetch(connection, project_id)
        if row is None:
            raise not_found("project")
        if not changed:
            raise needs_administrator()
        if row["model"] is not None and not changes.keys().isdisjoint(("model", "base_url")):
            _check_model(row, model)
    return _shown(row)


async def _deletion(call: Caller, project_id: UUID) -> Preview:
    async with call.transaction() as connection:
        row = await owned(connection, project_id)
        counts = await projects.contents(connection, project_id)
    held = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count)
    return Preview(f"This deletes project {project_id} for good, with its {held}.", {"Project": row["name"]})


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    ends_project=True,
    preview=_deletion,
)
async def delete_project(call: Caller, project_id: ProjectId) -> DeletedProject:
    """Delete a project with its threads, runs and files, for good. Needs the role owner."""
    async with call.transaction() as connection:
        await owned(connection, project_id)
        await call.services.runs.cancel_project(call.principal, project_id)
        await projects.delete(connection, project_id)
    return DeletedProject(id=project_id)


@resource("innkeeper://projects/{project_id}", Scope.projects_read, rest_from="get_project", listed=True)
async def project(call: Caller, project_id: ProjectId) -> Project:
    """A project with all its settings."""
    found: Project = await get_project.function(call, project_id, max_bytes=MOST_BYTES)
    return found


def _check_base_url(call: Caller, base_url: str | None) -> None:
    """Refuse at once what runs would be refused later: an address inside, however it is spelled."""
    if base_url is None:
        return
    try:
        call.services.outside.check(base_url)
    except AppError as refused:
        refused.details = {"arguments": [{"do": "change", "at": "base_url"}]}
        raise


def _check_model(changed: asyncpg.Record, given: str | None) -> None:
    """Refuse a model and a base URL that do not go together, before they are kept. What was kept is not repeated."""
    try:
        check_model(changed["model"], changed["base_url"])
    except AppError as refused:
        if given is None:
            refused.message = "Without its base URL the project's model names no provider: give another, or clear it."
            refused.details = {"arguments": [{"do": "give", "at": "model"}]}
        raise


def _shown(row: asyncpg.Record, cursor: str | None = None, max_bytes: int = USUAL_BYTES) -> Project:
    """The project with as much of its instructions, from where ``cursor`` says, as an answer may hold."""
    whole = Project(**row)
    whole.instructions, whole.next_cursor = instructions_part(whole, whole.instructions, cursor, max_bytes)
    return whole
