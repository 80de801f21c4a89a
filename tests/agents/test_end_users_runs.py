"""What the agent of an end user's run may do: what its agent row lends, and nothing of the project's own."""

from __future__ import annotations

import pytest
import pytest_asyncio

from db import accounts, end_users
from db.scopes import LENT_TO_END_USERS
from tests.agents.inn import Inn, body, run, user
from tests.conftest import Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import ToolCall, Turn
from tools.catalog import CATALOG

pytestmark = pytest.mark.promise("IDN-21")


@pytest_asyncio.fixture
async def ann(owner: Owner, house_open: Inn, tenant: Tenant) -> str:
    """Her token."""
    _id, key = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id)
    issued = await end_users.issue(house_open.database, key, tenant.project_id, issuer="", name="ann")
    return issued.token


def families(tools: list[str]) -> set[str]:
    """Whose scopes the tools need."""
    specs = [CATALOG.tool(name) for name in tools]
    return {str(spec.scope) for spec in specs if spec is not None}


async def test_an_agent_that_names_no_scopes_lends_the_registry_and_the_users_own_files(
    house_open: Inn, ann: str, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute(
        "INSERT INTO files (project_id, id, path, size, content_type, status, created_by, credential_id)"
        " VALUES ($1, gen_random_uuid(), 'the-projects-own.txt', 1, 'text/plain', 'ready', $2, $2)",
        *(tenant.project_id, tenant.user_id),
    )
    model.script(Turn(ToolCall("list_files", {"project_id": str(tenant.project_id)})), Turn("That is all."))
    stream = await run(house_open, ann, body(user("What have I got?")))
    assert stream.last["type"] == "RUN_FINISHED"
    assert families(model.requests[0].tools) == LENT_TO_END_USERS
    result = next(event for event in stream.events if event["type"] == "TOOL_CALL_RESULT")
    assert "the-projects-own" not in result["content"]


async def test_an_agent_row_names_what_is_lent_and_nothing_more_is(
    house_open: Inn, ann: str, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute(
        "UPDATE agents SET scopes = '{projects:read,agents:write}' WHERE project_id = $1", tenant.project_id
    )
    call = ToolCall("list_files", {"project_id": str(tenant.project_id)})
    model.script(Turn(call), Turn("I may not."))
    stream = await run(house_open, ann, body(user("What have I got?")))
    assert families(model.requests[0].tools) == {"projects:read"}
    assert stream.last["type"] == "RUN_FINISHED"
    result = next(event for event in stream.events if event["type"] == "TOOL_CALL_RESULT")
    assert "Unknown tool name" in result["content"]
