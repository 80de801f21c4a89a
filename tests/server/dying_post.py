"""``python -m tests.server.dying_post APP_URL OPS_URL PLAN MARKS``: workers that deliver mail, one after the other.

Each kills itself at the step that PLAN (JSON: mail id -> step) names for the mail it has. MARKS: a folder in which each
death is noted, so that it comes once, and in which the file ``pid`` is for who kills a worker from outside. Ends when
nothing is left to do, and says how many died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from db import job_queue
from db.database import Database
from server.jobs.job import JobCall
from server.jobs.worker import WorkerRules, working
from server.mail.carrier import Carried, Carrier, Leaving
from server.mail.message import Message
from server.mail.post import Post
from tests.server.edge_services import post_of
from tests.server.posting import MAIL_JOBS

if TYPE_CHECKING:
    from db.database import Connection
    from server.services import Services

STEPS = ("begun", "leaving", "left", "sent", "settling", "recorded")
PID = "pid"
PLAN: dict[str, str] = {}
MARKS = Path()


def die_at(step: str, mail_id: UUID) -> None:
    mark = MARKS / f"{mail_id}-{step}"
    if PLAN.get(str(mail_id)) == step and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingCarrier:
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    @property
    def route(self) -> str:
        return self._carrier.route

    @property
    def repeats(self) -> timedelta:
        return self._carrier.repeats

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        async def noted() -> None:
            die_at("leaving", message.id)
            await leaving()
            die_at("left", message.id)

        die_at("begun", message.id)
        carried = await self._carrier.carry(message, noted)
        die_at("sent", message.id)
        return carried


class DyingPost:
    def __init__(self, post: Post) -> None:
        self._post = post

    def carrier_of(self, *which: Any) -> Carrier | None:
        carrier = self._post.carrier_of(*which)
        return DyingCarrier(carrier) if carrier is not None else None


class DyingCall(JobCall):
    async def finish(self, connection: Connection) -> None:
        await super().finish(connection)
        die_at("settling", self.uuid("email_id"))


async def deliver(job: JobCall) -> None:
    job.__class__ = DyingCall
    (kind,) = (one for one in MAIL_JOBS if one.kind == job.kind)
    await kind.handler(job)
    die_at("recorded", job.uuid("email_id"))


async def work(app: str, ops: str) -> None:
    database = await Database.open(app, ops_url=ops, min_size=1, max_size=4)
    post = post_of(dict(os.environ))
    services = SimpleNamespace(
        database=database,
        dispatch=SimpleNamespace(services=SimpleNamespace(store=None)),
        post=DyingPost(post),
    )
    job = next(one for one in MAIL_JOBS if one.kind == "deliver_email")
    dying = type(job)(job.kind, deliver, retries=(0.1,) * 20)
    try:
        async with working(cast("Services", services), WorkerRules(1, 2.0), (dying,)):
            while True:
                async with database.ops() as connection:
                    if not await job_queue.counts(connection):
                        return
                await asyncio.sleep(0.05)
    finally:
        await post.aclose()
        await database.close()


def main(app: str, ops: str, plan: str, marks: str) -> None:
    global MARKS  # noqa: PLW0603  of this program alone
    PLAN.update(json.loads(plan))
    MARKS = Path(marks)
    died = 0
    while True:
        child = os.fork()
        if child == 0:
            (MARKS / PID).write_text(str(os.getpid()))
            asyncio.run(work(app, ops))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        died += 1
    print(json.dumps({"died": died, "code": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
