"""Tools for tests of the edges: they need no database and behave in every way an edge must be able to show."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from db.errors import unavailable
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.resources import resource
from tools.trust import Trusted


class Echo(BaseModel):
    said: Trusted[str]


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def echo(call: Caller, text: Annotated[str, Field(max_length=4_000_000, description="What to say.")]) -> Echo:
    """Say it again."""
    return Echo(said=text)


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def look_around(call: Caller, project_id: ProjectId) -> Echo:
    """Say which project this is."""
    return Echo(said=str(call.project_id))


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def fail_for_now(call: Caller) -> Echo:
    """Fail as a database does that is away."""
    raise unavailable()


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def crash_with_a_secret(call: Caller) -> Echo:
    """Crash with text that no caller may see."""
    raise RuntimeError("the password is hunter2")


@tool(Scope.projects_write, read_only=False, destructive=True, idempotent=False, open_world=False)
async def change_something(call: Caller) -> Echo:
    """Change something."""
    return Echo(said="changed")


class Found(BaseModel):
    found: Trusted[str] | None


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def find_nothing(call: Caller) -> Found:
    """Find nothing, and say so with a null."""
    return Found(found=None)


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def echo_from_region(
    call: Caller, region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]
) -> Echo:
    """Say the region that a header names too."""
    return Echo(said=region)


@resource("innkeeper://edges/{project_id}", Scope.projects_read)
async def edge(call: Caller, project_id: ProjectId) -> Echo:
    """A resource of a project."""
    return Echo(said=str(project_id))


EDGE_TOOLS = (echo, look_around, find_nothing, echo_from_region, fail_for_now, crash_with_a_secret, change_something)
EDGE_RESOURCES = (edge,)
