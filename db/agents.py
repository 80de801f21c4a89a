"""Agents: what differs between the runs of a project. Each function takes a connection in a caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

DEFAULT: Final = "default"
"""The agent that every project has from its start on."""

DEMO: Final = "demo"
"""The scripted agent, which needs no row."""

SETTINGS: Final = (
    "description",
    "instructions",
    "model",
    "fallback_models",
    "model_parameters",
    "tools",
    "skills",
    "scopes",
    "limits",
)
_COLUMNS: Final = f"id, name, {', '.join(SETTINGS)}, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run and of those it starts. ``steps``: model requests; ``seconds``: of wall time; ``tokens``: in and out;
    ``cost_usd``: as far as prices are known."""

    steps: int = 50
    tool_calls: int = 100
    seconds: float = 600.0
    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is held with: what its agent says, where it says nothing what its project says.

    ``tools`` and ``scopes``: ``None`` without a choice of the agent's own.
    """

    instructions: str = ""
    model: str | None = None
    fallback_models: tuple[str, ...] = ()
    base_url: str | None = None
    model_parameters: Mapping[str, object] = field(default_factory=dict)
    max_input_tokens: int | None = None
    allow_prompt_override: bool = False
    tools: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    budgeted: bool = False
    end_users_budgeted: bool = False
    model_prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def budgeted_for(self, end_user_id: UUID | None) -> bool:
        """Whether somebody has a budget for runs of this end user, or of who is none."""
        return self.budgeted or (end_user_id is not None and self.end_users_budgeted)


def settings_of(project: Mapping[str, Any], agent: Mapping[str, Any] | None) -> RunSettings:
    """``project`` and ``agent`` as rows in JSON. Instructions of both hold, the project's first; a limit that both
    set is the smaller one."""
    own = agent or {}
    given = {one.name: own["limits"][one.name] for one in fields(Limits) if one.name in own.get("limits", {})}
    calls = project["tool_call_limit"]
    limits = Limits(**{**given, "tool_calls": min(calls, given.get("tool_calls", calls))})
    texts = [text for text in (project["instructions"], own.get("instructions")) if text]
    return RunSettings(
        instructions="\n\n".join(texts),
        model=own.get("model") or project["model"],
        fallback_models=tuple(own.get("fallback_models", ())),
        base_url=project["base_url"],
        model_parameters={**project["model_parameters"], **own.get("model_parameters", {})},
        max_input_tokens=project["max_input_tokens"],
        allow_prompt_override=project["allow_prompt_override"],
        tools=_chosen(own.get("tools")),
        scopes=_chosen(own.get("scopes")),
        limits=limits,
        budgeted=_any(project, "monthly_messages", "monthly_usd"),
        end_users_budgeted=_any(project, "end_user_monthly_messages", "end_user_monthly_usd"),
        model_prices=project["model_prices"],
    )


@traced
async def page(connection: Connection, project_id: UUID, *, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` agents of the project in the order in which they were made, those after ``after``."""
    return await connection.fetch(
        f"SELECT {_COLUMNS} FROM agents WHERE project_id = $1 AND ($2::uuid IS NULL OR id > $2)"  # noqa: S608  fixed text
        " ORDER BY id LIMIT $3",
        *(project_id, after, limit),
    )


@traced
async def fetch(connection: Connection, project_id: UUID, name: str) -> asyncpg.Record | None:
    """The agent of that name with all its columns; ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM agents WHERE project_id = $1 AND name = $2",  # noqa: S608  fixed text
        *(project_id, name),
    )


@traced
async def insert(
    connection: Connection, project_id: UUID, agent_id: UUID, name: str, settings: Mapping[str, Any]
) -> bool:
    """False when the project has an agent of this name. ``settings``: columns of ``SETTINGS``."""
    names = _known(settings)
    places = ", ".join(f"${number}" for number in range(1, len(names) + 4))
    status = await connection.execute(
        f"INSERT INTO agents ({', '.join(('project_id', 'id', 'name', *names))}) VALUES ({places})"  # noqa: S608  known names
        " ON CONFLICT (project_id, name) DO NOTHING",
        *(project_id, agent_id, name, *(settings[column] for column in names)),
    )
    return status == "INSERT 0 1"


@traced
async def update(connection: Connection, project_id: UUID, name: str, changes: Mapping[str, Any]) -> bool:
    """Change the given columns; false when the caller may not or there is no such agent."""
    names = _known(changes)
    assignments = ", ".join(f"{column} = ${number}" for number, column in enumerate(names, 3))
    status = await connection.execute(
        f"UPDATE agents SET {assignments}, updated_at = now() WHERE project_id = $1 AND name = $2",  # noqa: S608  known names
        *(project_id, name, *(changes[column] for column in names)),
    )
    return status == "UPDATE 1"


@traced
async def delete(connection: Connection, project_id: UUID, name: str) -> bool:
    """False when the caller may not or there is no such agent. Its runs stay."""
    status = await connection.execute("DELETE FROM agents WHERE project_id = $1 AND name = $2", project_id, name)
    return status == "DELETE 1"


def _any(project: Mapping[str, Any], *names: str) -> bool:
    return any(project[name] is not None for name in names)


def _chosen(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _known(settings: Mapping[str, Any]) -> list[str]:
    return [name for name in SETTINGS if name in settings]
