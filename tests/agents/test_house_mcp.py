"""The in-process MCP client: what it agrees on with the endpoint, and that only a grant opens it."""

from __future__ import annotations

import pytest

from agents.engine import RunEngine
from agents.house_mcp import ERROR_META, GRANT_KEY, IDEMPOTENCY_META, CallRefusedError, HouseMCP
from agents.models import ModelFactory
from db.credentials import Authenticator
from db.database import Database
from db.errors import AppError
from server.http import front_door
from server.mcp import calling, endpoint, results
from tests.agents.inn import HouseServices
from tests.conftest import Owner, Tenant, living_run
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.ports import Services


@pytest.fixture
def mcp(database: Database, authenticator: Authenticator) -> HouseMCP:
    engine = RunEngine(database, ModelFactory())
    services = HouseServices(authenticator, Dispatch(Services(database, engine)), CATALOG, engine)
    return HouseMCP(endpoint.build(services))


def test_both_sides_use_the_same_names() -> None:
    assert GRANT_KEY == front_door.GRANT_KEY
    assert IDEMPOTENCY_META == calling.IDEMPOTENCY_META
    assert ERROR_META == results.ERROR_META


async def test_a_grant_lists_what_its_scopes_allow_and_calls_as_its_user(
    mcp: HouseMCP, tenant: Tenant, owner: Owner
) -> None:
    run_id = await living_run(owner, tenant)
    grant = tenant.principal.for_run(run_id, depth=1, epoch=1, scopes=frozenset({"projects:read"}))
    assert [tool["name"] for tool in await mcp.list_tools(grant)] == ["list_projects", "get_project"]
    result = await mcp.call_tool(grant, "list_projects", {}, "key")
    assert [project["id"] for project in result["structuredContent"]["projects"]] == [str(tenant.project_id)]
    for name in ("create_project", "no_such_tool"):
        try:
            refused = await mcp.call_tool(grant, name, {"name": "x"}, "key")
        except CallRefusedError:
            continue
        assert refused["isError"]


@pytest.mark.promise("HOME-20")
async def test_the_same_call_of_a_run_happens_once(mcp: HouseMCP, tenant: Tenant, owner: Owner) -> None:
    grant = tenant.principal.for_run(await living_run(owner, tenant), depth=1, epoch=1)
    first = await mcp.call_tool(grant, "create_project", {"name": "Once"}, "run:1:call")
    again = await mcp.call_tool(grant, "create_project", {"name": "Once"}, "run:1:call")
    assert first["structuredContent"]["id"] == again["structuredContent"]["id"]
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'Once'") == 1


async def test_a_grant_dies_with_its_credential(mcp: HouseMCP, tenant: Tenant, owner: Owner) -> None:
    grant = tenant.principal.for_run(await living_run(owner, tenant), depth=1, epoch=1)
    await owner.execute("DELETE FROM credentials")
    with pytest.raises(AppError) as raised:
        await mcp.list_tools(grant)
    assert raised.value.status == 401
