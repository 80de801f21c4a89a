"""Workers as processes: killed at every step, beside each other, and as the operator sees them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from db import job_queue
from db.database import Database
from db.jobs import enqueue, enqueue_for
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.server.command import noted, run
from tests.server.dying_worker import Step
from tests.server.test_serve import environ_of
from tests.working import all_jobs

pytestmark = pytest.mark.promise("GND-02")

ROOT = Path(__file__).parents[2]


async def workers(urls: DatabaseUrls, mode: str, **environ: str) -> dict[str, Any]:
    """What the processes of ``dying_worker`` have to say when all of them are over."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.server.dying_worker", urls.app, urls.ops, mode),
        cwd=ROOT,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said: dict[str, Any] = json.loads(out)
    return said


async def test_killed_at_every_step_a_job_has_its_effect_once(
    database: Database, urls: DatabaseUrls, tenant: Tenant, owner: Owner
) -> None:
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        jobs = {step: await enqueue(connection, "work", {"step": step}) for step in Step}

    said = await workers(urls, "deaths", DIE_WHEN_SETTLED=str(jobs[Step.settled]))

    # One death at each step, and one before anything was picked.
    assert (said["died"], said["code"]) == (len(Step), 0)
    assert said["seconds"] < 5
    effects = await owner.fetch("SELECT name, count(*) FROM threads GROUP BY name")
    assert {row["name"]: row["count"] for row in effects} == {step.name: 1 for step in Step}


async def test_two_processes_with_a_worker_run_a_schedule_once(
    database: Database, urls: DatabaseUrls, owner: Owner
) -> None:
    await owner.execute(
        "INSERT INTO ops.pgqueuer_schedules (entrypoint, expression, next_run)"
        " VALUES ('tick', '* * * * *', now() - interval '1 h')"
    )
    assert await workers(urls, "schedule") == {"codes": [0, 0]}
    async with database.ops() as connection:
        (total,) = await job_queue.totals(connection)
    assert (total.kind, total.outcome, total.jobs) == ("tick", "done", 1)


async def test_the_worker_command_works_off_jobs_and_the_operator_sees_them(
    database: Database, urls: DatabaseUrls, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    environ = environ_of(urls)
    async with database.ops() as ops:
        first = await enqueue_for(ops, None, "clean_up", {})
        unknown = await enqueue_for(ops, tenant.project_id, "of_another_version", {})
    await owner.execute("UPDATE ops.pgqueuer SET execute_after = now() - interval '5 min'")
    doctor = await run("doctor", cwd=tmp_path, environ=environ)
    assert doctor.code == 1
    waiting = r"2 jobs wait, one for 3\d\d s, and a worker was never seen: start 'innkeeper worker'"
    assert re.search(waiting, doctor.out), doctor.out

    async with noted("worker", cwd=tmp_path, until="ready:", environ=environ):

        async def done() -> bool:
            return [job.id for job in await all_jobs(database)] == [unknown]

        await eventually(done)
        listed = await run("jobs", "list", "--json", cwd=tmp_path, environ=environ)
        (shown,) = json.loads(listed.out)
        assert (shown["id"], shown["kind"], shown["state"]) == (unknown, "of_another_version", "queued")
        assert shown["project_id"] == str(tenant.project_id)

    await owner.execute(
        "UPDATE ops.pgqueuer SET status = 'failed', attempts = 8, error_code = 'mail_refused', error_message = 'No.'"
    )
    dead = await run("jobs", "list", "--state", "dead", cwd=tmp_path, environ=environ)
    assert (
        dead.out.split()
        == (f"{unknown} of_another_version dead attempts 8 project {tenant.project_id} mail_refused: No.").split()
    )
    assert "1 jobs are dead (of_another_version)" in (await run("doctor", cwd=tmp_path, environ=environ)).out
    retried = await run("jobs", "retry", str(first), str(unknown), cwd=tmp_path, environ=environ)
    assert (retried.code, retried.out) == (2, f"Begun anew: {unknown}.\n")
    assert f"Neither dead nor waiting: {first}." in retried.err
    assert [(job.state, job.attempts) for job in await all_jobs(database)] == [("queued", 0)]
    await owner.execute("UPDATE ops.pgqueuer SET status = 'failed'")
    kind = await run("jobs", "retry", "--kind", "of_another_version", "--json", cwd=tmp_path, environ=environ)
    assert (kind.code, json.loads(kind.out)) == (0, [unknown])
