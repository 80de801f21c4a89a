from __future__ import annotations

import pytest

from db.database import Database
from server.housekeeping import housekeeping
from tests.conftest import Owner, Tenant, eventually
from tools.dispatch import Dispatch


@pytest.mark.promise("MCP-05")
async def test_a_serving_process_clears_away_what_has_had_its_time_and_survives_a_failure(
    dispatch: Dispatch, database: Database, tenant: Tenant, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    async def cleared() -> bool:
        return not await owner.fetch("SELECT key FROM idempotency")

    async def complained() -> bool:
        return "cleaning up failed" in caplog.text

    await dispatch.call(tenant.principal, "create_project", {"name": "x"}, idempotency_key="key")
    await owner.execute("UPDATE idempotency SET expires_at = now() - interval '1 second'")
    await owner.execute("ALTER FUNCTION clean_up(integer) RENAME TO clean_up_later")
    async with housekeeping(database, interval=0.02):
        await eventually(complained)
        assert not await cleared()
        await owner.execute("ALTER FUNCTION clean_up_later(integer) RENAME TO clean_up")
        await eventually(cleared)
