"""Runs: what the agents of a project do, and the threads they do it in."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from db import agents
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, Limit, from_cursor, to_cursor
from tools.roles import readable
from tools.trust import Trusted, Untrusted


class AgentSummary(BaseModel):
    id: UUID
    name: Trusted[str]
    description: Untrusted[str]
    model: Untrusted[str] | None


class AgentPage(BaseModel):
    agents: list[AgentSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_agents(
    call: Caller, project_id: ProjectId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> AgentPage:
    """List the agents that can be run in a project."""
    async with call.transaction() as connection:
        rows = await agents.page(connection, project_id, after=from_cursor(cursor), limit=limit + 1)
        if not rows:
            await readable(connection, project_id)
    found = [AgentSummary(**{name: row[name] for name in AgentSummary.model_fields}) for row in rows[:limit]]
    return AgentPage(agents=found, next_cursor=to_cursor(found[-1].id) if len(rows) > limit else None)
