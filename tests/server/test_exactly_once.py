"""A write with a key happens once, whatever dies in the middle of it. The process that is killed is ``innkeeper serve``
as it runs in production; the one that goes on is another. Nothing in the product knows of these tests: what stops a
call at a step is a lock that a test holds in PostgreSQL, or a wire that swallows the answer to COMMIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from db.cleaning import clean_up
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.server.command import Running, noted
from tests.server.postgres_wire import wire
from tools.dispatch import Dispatch
from tools.ports import NoRuns, Services

pytestmark = pytest.mark.promise("MCP-05")

KEY = "the same key"
ARGUMENTS = {"name": "Once", "instructions": "only once"}

# What holds the call where; while it is held, the backend of the server waits for a lock of the test.
HOLDING = {
    "before the claim": "LOCK TABLE idempotency IN ACCESS EXCLUSIVE MODE",
    "after the claim, before the effect": "LOCK TABLE projects IN EXCLUSIVE MODE",
    "after the effect, before its audit": "LOCK TABLE audit IN EXCLUSIVE MODE",
    "after the audit, before the answer is saved": "SELECT pg_advisory_xact_lock(1)",
    "inside COMMIT": "SELECT pg_advisory_xact_lock(2)",
}
TRIGGERS = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN PERFORM pg_advisory_xact_lock(TG_ARGV[0]::bigint); RETURN NEW; END $$;
CREATE TRIGGER before_answer BEFORE UPDATE ON idempotency FOR EACH ROW EXECUTE FUNCTION wait_for_test(1);
CREATE CONSTRAINT TRIGGER in_commit AFTER UPDATE ON idempotency DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION wait_for_test(2)"""


@contextlib.asynccontextmanager
async def serving(urls: DatabaseUrls, app_url: str, folder: Path) -> AsyncIterator[Running]:
    environ = {
        "DATABASE_URL": app_url,
        "DATABASE_OPS_URL": urls.ops,
        "INNKEEPER_ROOT_SECRET": "n3kS0mVt8cQ1xZ5rB7yL2wE9uJ4hG6fD-apoi",
        "INNKEEPER_PUBLIC_URL": "http://localhost",
    }
    async with noted("serve", "--port", "0", cwd=folder, until="ready:", environ=environ) as running:
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", running.ready["said"])
        assert found
        running.ready["mcp_url"] = f"{found[1]}/mcp"
        yield running


async def create(running: Running, token: str) -> dict[str, Any]:
    params = {"name": "create_project", "arguments": ARGUMENTS, "_meta": {"innkeeper/idempotency_key": KEY}}
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.post(
            running.ready["mcp_url"],
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
        )
    return dict(answer.json())


async def kill(running: Running) -> None:
    os.kill(running.process.pid, signal.SIGKILL)
    await running.process.wait()


@contextlib.asynccontextmanager
async def cut_before_commit(urls: DatabaseUrls) -> AsyncIterator[None]:
    """Inside, a write loses its connection to the database after its effect."""
    holder = await asyncpg.connect(urls.superuser)

    async def cut() -> bool:
        return bool(
            await holder.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'innkeeper_app'"
                " AND datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
            cutting = asyncio.create_task(eventually(cut, 30))
            yield
            await cutting
    finally:
        await holder.close()


async def projects_named_once(owner: Owner) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'Once'"))


@pytest.mark.parametrize("step", HOLDING)
async def test_a_process_killed_at_any_step_leaves_one_effect_and_its_answer_to_the_next(
    urls: DatabaseUrls, owner: Owner, tenant: Tenant, dispatch: Dispatch, tmp_path: Path, step: str
) -> None:
    await owner.execute(TRIGGERS)
    holder = await asyncpg.connect(urls.superuser)
    try:
        async with serving(urls, urls.app, tmp_path) as running:
            holding = holder.transaction()
            await holding.start()
            await holder.execute(HOLDING[step])
            call = asyncio.create_task(create(running, tenant.token))

            async def held() -> bool:
                assert not call.done(), call.result()
                return bool(
                    await holder.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND usename = 'innkeeper_app' AND wait_event_type = 'Lock'"
                    )
                )

            await eventually(held, 30)
            await kill(running)
            with pytest.raises(httpx2.TransportError):
                await call
            await holding.rollback()
    finally:
        await holder.close()

    answers = [
        await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY) for _ in range(2)
    ]

    assert await projects_named_once(owner) == 1
    # Killed inside COMMIT, the transaction had been handed over: it is the database's to finish, and it does.
    assert [answer.replayed for answer in answers] == [step == "inside COMMIT", True]
    assert answers[0].structured == answers[1].structured
    assert await owner.fetchval("SELECT count(*) FROM audit WHERE action = 'create_project'") == 1


async def test_a_process_killed_after_commit_and_before_its_answer_leaves_the_answer_to_the_next(
    urls: DatabaseUrls, owner: Owner, tenant: Tenant, dispatch: Dispatch, tmp_path: Path
) -> None:
    async with wire(urls.app) as held, serving(urls, held.url, tmp_path) as running:
        held.armed_by = b"INSERT INTO idempotency"
        call = asyncio.create_task(create(running, tenant.token))
        async with asyncio.timeout(60):
            await held.committed.wait()
        assert not call.done()
        await kill(running)
        with pytest.raises(httpx2.TransportError):
            await call

    assert await projects_named_once(owner) == 1
    answer = await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY)
    assert answer.replayed
    assert await projects_named_once(owner) == 1
    assert answer.structured["id"] == str(await owner.fetchval("SELECT id FROM projects WHERE name = 'Once'"))


async def test_a_lost_connection_to_the_database_leaves_the_key_free_or_the_answer_saved(
    urls: DatabaseUrls, owner: Owner, tenant: Tenant, dispatch: Dispatch
) -> None:
    async with cut_before_commit(urls):
        with pytest.raises(AppError) as caught:
            await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY)
    assert (caught.value.code, caught.value.retryable) == ("unavailable", True)

    answer = await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY)
    assert not answer.replayed
    assert await projects_named_once(owner) == 1


class Asked(NoRuns):
    """Runs that note each time they are asked to stop: an effect outside of the transaction."""

    def __init__(self) -> None:
        self.projects: list[UUID] = []

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        self.projects.append(project_id)


async def test_an_effect_that_was_half_done_is_finished_by_the_next_call_and_then_not_done_again(
    urls: DatabaseUrls, database: Database, owner: Owner, tenant: Tenant, unasked: None
) -> None:
    runs = Asked()
    dispatch = Dispatch(Services(database, runs))
    target = {"project_id": str(tenant.project_id)}
    async with cut_before_commit(urls):
        with pytest.raises(AppError):
            await dispatch.call(tenant.principal, "delete_project", target, idempotency_key=KEY)
    assert runs.projects == [tenant.project_id]
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE id = $1", tenant.project_id) == 1

    finished = await dispatch.call(tenant.principal, "delete_project", target, idempotency_key=KEY)
    repeated = await dispatch.call(tenant.principal, "delete_project", target, idempotency_key=KEY)

    assert (finished.replayed, repeated.replayed) == (False, True)
    assert runs.projects == [tenant.project_id] * 2
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE id = $1", tenant.project_id) == 0


async def test_a_key_is_kept_for_a_day_then_free_and_cleared_away(
    dispatch: Dispatch, database: Database, tenant: Tenant, owner: Owner
) -> None:
    first = await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY)
    kept = await owner.fetchval("SELECT expires_at - created_at FROM idempotency")
    assert kept.total_seconds() == 24 * 3600
    assert await clean_up(database) == 0
    assert (await dispatch.call(tenant.principal, "create_project", ARGUMENTS, idempotency_key=KEY)).replayed

    await owner.execute("UPDATE idempotency SET expires_at = now() - interval '1 second'")
    anew = await dispatch.call(tenant.principal, "create_project", {"name": "Other"}, idempotency_key=KEY)
    assert not anew.replayed
    assert anew.structured["id"] != first.structured["id"]

    await owner.execute("UPDATE idempotency SET expires_at = now() - interval '1 second'")
    assert await clean_up(database) == 1
    assert await owner.fetchval("SELECT count(*) FROM idempotency") == 0


async def test_cleaning_up_takes_many_rows_in_batches_and_nothing_that_still_counts(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    await owner.execute(
        "INSERT INTO idempotency (credential_id, key, tool, arguments_digest, expires_at)"
        " SELECT $1, n::text, 't', '', now() + CASE WHEN n % 10 = 0 THEN interval '1 h' ELSE interval '-1 s' END"
        " FROM generate_series(1, 2500) n",
        tenant.principal.credential_id,
    )
    for days in (29, 31):
        await owner.execute(
            "INSERT INTO approvals (id, credential_id, user_id, through_run, tool, target, arguments_digest, state,"
            " expires_at, used_at) VALUES ($1, $2, $3, false, 't', '', '', 'used', now() - interval '40 days',"
            " now() - $4 * interval '1 day')",
            *(uuid7(), tenant.principal.credential_id, tenant.user_id, days),
        )
    for hours in (20, 30):
        await owner.execute(
            "INSERT INTO approvals (id, credential_id, user_id, through_run, tool, target, arguments_digest,"
            " expires_at) VALUES ($1, $2, $3, false, 't', '', $4, now() - $5 * interval '1 hour')",
            *(uuid7(), tenant.principal.credential_id, tenant.user_id, f"{hours}".encode(), hours),
        )
    for kind in ("secret", "link", "session"):
        for hours in (20, 30):
            await owner.execute(
                "INSERT INTO credentials (id, user_id, kind, hint, token_hash, expires_at)"
                " VALUES ($1, $2, $3, $4, $5, now() - $6 * interval '1 hour')",
                *(uuid7(), tenant.user_id, kind, f"{hours}", f"{kind}{hours}".encode(), hours),
            )

    assert await clean_up(database) == 2250 + 2 + 2

    assert await owner.fetchval("SELECT count(*) FROM idempotency") == 250
    assert await owner.fetchval("SELECT count(*) FROM approvals") == 2
    kept = await owner.fetch("SELECT kind, hint FROM credentials WHERE expires_at IS NOT NULL ORDER BY kind, hint")
    assert [tuple(row) for row in kept] == [("link", "20"), ("secret", "20"), ("secret", "30"), ("session", "20")]
