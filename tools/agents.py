"""Agents: who answers in a project. A run names one; what an agent leaves out is its project's setting.

Reading who there is belongs to the family of runs (:mod:`tools.runs`); this one, for those who make agents, is offered
on request. No run has it: an agent that could change agents could give itself more than its caller meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from db import agents
from db.errors import AppError, conflict, not_found
from db.ids import uuid7
from db.scopes import ALL_SCOPES, MANAGING_SCOPES, Scope
from tools.changes import wanted
from tools.contract import Caller, ProjectId, tool
from tools.pages import Cursor
from tools.preview import Preview
from tools.project_settings import Instructions, Model, ModelParameters, check_model, instructions_part
from tools.result import USUAL_BYTES, MaxBytes
from tools.roles import administered, readable
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

LENDABLE: Final = ALL_SCOPES - MANAGING_SCOPES


class AgentLimits(BaseModel):
    """Bounds of one run, and of the runs it starts together with it."""

    model_config = ConfigDict(extra="forbid")

    steps: int | None = Field(default=None, ge=1, le=1000, description="Model requests.")
    tool_calls: int | None = Field(default=None, ge=0, le=1000, description="At most the project's.")
    seconds: float | None = Field(default=None, ge=1, le=86_400, description="Wall time.")
    tokens: int | None = Field(default=None, ge=1)
    cost_usd: float | None = Field(default=None, gt=0, le=10_000)


class Agent(BaseModel):
    id: UUID
    name: Trusted[str]
    description: Untrusted[str]
    instructions: Untrusted[str]
    model: Untrusted[str] | None
    fallback_models: list[Untrusted[str]]
    model_parameters: Trusted[dict[str, Any]]
    tools: list[Trusted[str]] | None
    scopes: list[Trusted[str]] | None
    limits: Trusted[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when instructions go on.")


class DeletedAgent(BaseModel):
    name: Trusted[str]
    deleted: Literal[True] = True


def _free(name: str) -> str:
    if name == agents.DEMO:
        raise ValueError("'demo' is the scripted agent that every project has")
    return name


def _lendable(scope: str) -> str:
    if scope not in LENDABLE:
        raise ValueError(f"must be one of {', '.join(sorted(LENDABLE))}")
    return scope


def _known_tool(name: str) -> str:
    from tools.catalog import CATALOG  # it imports this module

    if CATALOG.tool(name) is None:
        raise ValueError("is no tool of this house")
    return name


NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
AgentName: TypeAlias = Annotated[str, Field(pattern=NAME, description="As list_agents shows it.")]
NewName: TypeAlias = Annotated[
    str, Field(pattern=NAME, description="What runs call it: POST /agui/NAME."), AfterValidator(_free)
]
Description: TypeAlias = Annotated[str, Field(max_length=500, description="What it is for.")]
Fallbacks: TypeAlias = Annotated[
    list[Model], Field(max_length=5, description="Models to try in turn when one fails before it says anything.")
]
ToolNames: TypeAlias = Annotated[
    list[Annotated[str, AfterValidator(_known_tool)]],
    Field(max_length=100, description="The only tools it may use; without, all its caller may."),
]
LentScopes: TypeAlias = Annotated[
    list[Annotated[str, AfterValidator(_lendable)]],
    Field(max_length=50, description="What it lends its runs: to end users exactly these, to others at most these."),
]
Clearable: TypeAlias = Literal[
    "model", "fallback_models", "model_parameters", "tools", "scopes", "limits", "description", "instructions"
]
_EMPTY: Final[dict[str, Any]] = {
    "fallback_models": [],
    "model_parameters": {},
    "limits": {},
    "description": "",
    "instructions": "",
}


@tool(Scope.agents_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_agent(
    call: Caller, project_id: ProjectId, agent: AgentName, cursor: Cursor = None, max_bytes: MaxBytes = USUAL_BYTES
) -> Agent:
    """Read an agent with all its settings. Long instructions come in parts."""
    async with call.transaction() as connection:
        row = await agents.fetch(connection, project_id, agent)
        if row is None:
            await readable(connection, project_id)
            raise not_found("agent")
    return _shown(row, cursor, max_bytes)


@tool(Scope.agents_write, read_only=False, destructive=False, idempotent=False, open_world=False, rest_from="get_agent")
async def create_agent(
    call: Caller,
    project_id: ProjectId,
    name: NewName,
    description: Description = "",
    instructions: Instructions = "",
    model: Model | None = None,
    fallback_models: Fallbacks = [],  # noqa: B006  never changed
    model_parameters: ModelParameters | None = None,
    tools: ToolNames | None = None,
    scopes: LentScopes | None = None,
    limits: AgentLimits | None = None,
) -> Agent:
    """Create an agent. What is left out is the project's setting. Needs the role owner or admin."""
    settings: dict[str, Any] = {
        "description": description,
        "instructions": instructions,
        "model": model,
        "fallback_models": fallback_models,
        "model_parameters": _given(model_parameters),
        "tools": tools,
        "scopes": scopes,
        "limits": _given(limits),
    }
    async with call.transaction() as connection:
        _check_models((await administered(connection, project_id))["base_url"], model, fallback_models)
        if not await agents.insert(connection, project_id, uuid7(), name, settings):
            raise conflict(
                "agent_name_taken",
                f"The project has an agent '{name}' already.",
                "Choose another name, or change that one with update_agent.",
                {"arguments": [{"do": "change", "at": "name"}]},
            )
        row = await agents.fetch(connection, project_id, name)
    if row is None:
        raise not_found("agent")
    return _shown(row)


@tool(Scope.agents_write, read_only=False, destructive=False, idempotent=True, open_world=False, rest_from="get_agent")
async def update_agent(
    call: Caller,
    project_id: ProjectId,
    agent: AgentName,
    description: Description | None = None,
    instructions: Instructions | None = None,
    model: Model | None = None,
    fallback_models: Fallbacks | None = None,
    model_parameters: ModelParameters | None = None,
    tools: ToolNames | None = None,
    scopes: LentScopes | None = None,
    limits: AgentLimits | None = None,
    clear: Annotated[list[Clearable], Field(description="Settings to leave to the project again.")] = [],  # noqa: B006  never changed
) -> Agent:
    """Change an agent; what is left out stays as it is. Needs the role owner or admin."""
    given: dict[str, Any] = {
        "description": description,
        "instructions": instructions,
        "model": model,
        "fallback_models": fallback_models,
        "model_parameters": None if model_parameters is None else _given(model_parameters),
        "tools": tools,
        "scopes": scopes,
        "limits": None if limits is None else _given(limits),
    }
    changes = wanted(given, clear, _EMPTY)
    async with call.transaction() as connection:
        _check_models((await administered(connection, project_id))["base_url"], model, fallback_models or [])
        await agents.update(connection, project_id, agent, changes)
        row = await agents.fetch(connection, project_id, agent)
    if row is None:
        raise not_found("agent")
    return _shown(row)


async def _farewell(call: Caller, project_id: UUID, agent: str) -> Preview:
    async with call.transaction() as connection:
        await administered(connection, project_id)
        row = await agents.fetch(connection, project_id, agent)
    if row is None:
        raise not_found("agent")
    if agent == agents.DEFAULT:
        raise _always_there()
    return Preview(f"This deletes the agent {row['id']} for good. What it said stays.", {"Agent": agent})


@tool(
    Scope.agents_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_farewell,
    target="agent",
)
async def delete_agent(call: Caller, project_id: ProjectId, agent: AgentName) -> DeletedAgent:
    """Delete an agent; its runs and threads stay. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await administered(connection, project_id)
        if agent == agents.DEFAULT:
            raise _always_there()
        if not await agents.delete(connection, project_id, agent):
            raise not_found("agent")
    return DeletedAgent(name=agent)


def _check_models(base_url: str | None, model: str | None, fallbacks: Sequence[str]) -> None:
    if model is not None:
        check_model(model, base_url)
    for number, fallback in enumerate(fallbacks):
        check_model(fallback, base_url, f"fallback_models.{number}")


def _given(model: BaseModel | None) -> dict[str, Any]:
    return {} if model is None else model.model_dump(exclude_none=True)


def _shown(row: asyncpg.Record, cursor: str | None = None, max_bytes: int = USUAL_BYTES) -> Agent:
    """The agent with as much of its instructions, from where ``cursor`` says, as an answer may hold."""
    whole = Agent(**row)
    whole.instructions, whole.next_cursor = instructions_part(whole, whole.instructions, cursor, max_bytes)
    return whole


def _always_there() -> AppError:
    return conflict(
        "agent_is_default",
        "The agent 'default' is the one of runs that name none; it cannot be deleted.",
        "Change it with update_agent, or delete another one.",
    )
