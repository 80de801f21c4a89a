"""A database that is there and serves nobody for a while: streams wait, whoever asks is told, and nothing is lost."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from db.credentials import CHANNEL
from tests.agents.inn import Inn, body, followed, rest, speaking, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Turn

CUT = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename <> 'postgres' AND application_name = '' AND usename <> $1"
)
"""All connections but those that listen, and the owner's."""


@pytest.mark.promise("RUN-26", "RUN-02")
async def test_while_it_takes_no_connections_and_then_no_writes_a_stream_waits_and_the_run_is_written_afterwards(
    house_open: Inn,
    model: ScriptedModel,
    urls: DatabaseUrls,
    owner: Owner,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuses(why: str) -> bool:
        return any("the database refuses" in line and why in line for line in caplog.messages)

    async def is_unavailable(method: str, path: str, **more: Any) -> bool:
        answer = await house_open.client.request(
            method, house_open.url + path, headers={"authorization": f"Bearer {tenant.token}"}, **more
        )
        if answer.status_code < 400:
            return False
        assert answer.headers["retry-after"]
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:innkeeper:error:unavailable")
        return True

    superuser = await asyncpg.connect(urls.superuser)
    altered = f'ALTER DATABASE "{await superuser.fetchval("SELECT current_database()")}"'
    gate = Gate()
    model.script(Turn("One ", gate, "two."))
    async with speaking(house_open, tenant.token, body(user("Count."))) as (stream, chunks):
        run_id = str(await owner.fetchval("SELECT id FROM runs"))
        await superuser.execute(f"{altered} CONNECTION LIMIT 0")
        await superuser.fetch(CUT, "innkeeper_owner")
        # The stream's reader has to be asked for anew, and nobody can say who they are.
        await superuser.fetch("SELECT pg_notify($1, $2)", CHANNEL, f"user:{tenant.user_id}")
        await eventually(lambda: refuses("too many connections"), 30)
        assert await is_unavailable("GET", f"/runs/{run_id}")
        await superuser.execute(f"{altered} CONNECTION LIMIT -1")
        await superuser.execute(f"{altered} SET default_transaction_read_only = on")
        await superuser.fetch(CUT, "innkeeper_owner")
        gate.open()
        await eventually(lambda: refuses("read-only transaction"), 30)
        await eventually(lambda: is_unavailable("POST", "/agui", json=body(user("Meanwhile."))), 30)
        await superuser.execute(f"{altered} RESET default_transaction_read_only")
        await rest(stream, chunks)
    await superuser.close()
    assert (stream.last["type"], stream.text) == ("RUN_FINISHED", "One two.")
    assert stream.ids == list(range(1, len(stream.ids) + 1))
    assert (await followed(house_open, tenant.token, run_id)).events == stream.events
    assert await owner.fetchval("SELECT count(*) FROM messages WHERE role = 'assistant'") == 1
