"""Where rounds are played one after the other: a database, its tenant, two houses that live on, and what they reach."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2

from tests.agents.inn import followed
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.resend_server import KEY, ResendServer, resend
from tests.fakes.script import asked as asked_for
from tests.killing.clients import Clients
from tests.killing.houses import House, Houses
from tests.killing.points import Point
from tests.killing.rounds import Round, Script
from tests.killing.verdict import Seen, Verdict, expected, frames

LEASE: Final = 1.5
LONG: Final = 20
"""How many times as long the lease is of a process that nobody kills. One that is told to end must hand its runs over,
or nobody gets them in time."""
HANDED_OVER: Final = 10
"""Within how many times a lease."""
AT_ONCE: Final = 0.4
"""Seconds in which a process is ready where nobody else wants the processor. Where it takes longer, leases are longer:
who keeps one alive must come to do so."""
ROUND_SECONDS: Final = 120
KILLED: Final = "was killed"
STOOD_STILL: Final = "stood still"
ENDED: Final = "ended"
LIVES: Final = "never came there"


@dataclass
class Lane:
    houses: Houses
    urls: DatabaseUrls
    tenant: Tenant
    owner: Owner
    model: ScriptedModel
    post: ResendServer
    files: Path
    defects: tuple[str, ...] = ()
    heirs: list[House] = field(default_factory=list)
    lease: float = LEASE
    fates: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What became of the processes, by the point at which it was to."""

    async def open(self, *points: Point, work: bool = False, look: float | None = None) -> House:
        """One more process. Only those that are to die need a short lease."""
        long = not points or any(point.act == "end" for point in points)
        settings = {
            "INNKEEPER_DRAIN_SECONDS": "3",
            "RESEND_API_KEY": KEY,
            "RESEND_API_URL": self.post.url,
            "EMAIL_FROM_DEFAULT": "inn@example.com",
            "INNKEEPER_JOB_LEASE_SECONDS": "2",
            "INNKEEPER_DATABASE_POOL_MAX": "6",
        }
        clock = asyncio.get_running_loop().time
        since = clock()
        house = await self.houses.open(
            *(self.urls, self.model.base_url),
            points=points,
            lease=self.lease * LONG if long else self.lease,
            look=look or LEASE / 2,
            work=work,
            files=self.files,
            settings=settings,
            defects=self.defects,
        )
        self.lease = max(LEASE, LEASE * (clock() - since) / AT_ONCE, self.lease * 0.8)
        return house

    async def play(self, played: Round) -> list[str]:
        """Everything that does not hold after this round, in words."""
        project = str(self.tenant.project_id)
        self._scripts = {script.said: script for script in played.scripts}
        self._early = []
        for script in played.scripts:
            self.model.play(script.said, *script.turns(project))
        self._at.clear()
        verdict = Verdict(self.fetch, self.heirs, self.tenant)
        lease = self.lease
        dying = [
            await self.open(point, work=True, look=0.1 if number else None)
            for number, point in enumerate(played.points)
        ]
        seconds = ROUND_SECONDS * self.lease / LEASE
        try:
            async with asyncio.timeout(seconds):
                seen, witness, written, took = await self._carry_out(played, dying)
                done = await verdict.done(seen)
                paused = await self._wake(played, dying[0], seen)
                await self._children_end()
                code = await self._end(played, dying[0])
        except (TimeoutError, httpx2.ReadTimeout):
            return [f"after {seconds:.0f} s it is not over: {await self._left()}, {self._at}"]
        except ExceptionGroup as group:
            return [f"a client broke off: {error!r}" for error in group.exceptions]
        finally:
            for house, point in zip(dying, played.points, strict=True):
                self.fates[point.name, fate(house)] += 1
                await house.close()
        faults = list(self._early)
        if code:
            faults.append(f"a process that was told to end did so with {code}")
        if took > HANDED_OVER * lease:
            faults.append(f"runs were over {took:.1f} s after their process was told to end")
        faults += await verdict.done_since(seen, done)
        return [*faults, *await verdict.faults(seen, witness, paused), *await verdict.unwritten(written)]

    async def _carry_out(self, played: Round, dying: list[House]) -> tuple[list[Seen], Seen, list[str], float]:
        """What the clients saw, the witness, what was written, and how long all that took once the process had been
        told to end."""
        clients = Clients(self.tenant, [*dying, *self.heirs], self.fetch, self._at)
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            seen = [Seen(script) for script in played.scripts]
            reading = [group.create_task(clients.read(one)) for one in seen]
            writing = group.create_task(clients.write(f"written {played.scripts[0].said}"))
            witness = group.create_task(clients.witness(played.scripts[0]))
            for one, reader in zip(seen, reading, strict=True):
                if one.script in played.cancelled:
                    group.create_task(clients.cancel(one, played.cancels or 0, reader))
            waking = group.create_task(self._wake_early(played, dying[0]))
            await asyncio.wait([*reading, writing, witness])
            waking.cancel()
        took = clock() - dying[0].reached_at.get(played.first.name, clock())
        return seen, witness.result(), writing.result(), took

    async def _end(self, played: Round, house: House) -> int:
        """The exit code of a process that was told to end."""
        if played.first.act != "end" or not house.reached[played.first.name].is_set():
            return 0
        await house.gone()
        return house.code or 0

    async def _wake_early(self, played: Round, house: House) -> None:
        """Let one that stood still go on while another one has just taken one of its runs, or has just told something
        of it."""
        if not (played.first.act == "stop" and played.wakes_early):
            return
        await house.stuck.wait()
        runs = "SELECT id, last_seq FROM runs WHERE external_id = ANY ($1) AND lease_epoch"
        names = [script.said for script in played.scripts]
        stood = {row["id"]: row["last_seq"] for row in await self.fetch(f"{runs} = 1", names)}
        told = 1 if played.seed % 2 else 0
        while all(  # noqa: ASYNC110  (a row of another process: nothing here could be waited for)
            row["last_seq"] < stood.get(row["id"], 0) + told for row in await self.fetch(f"{runs} > 1", names)
        ):
            await asyncio.sleep(0.005)
        await self._go_on(house)

    async def _wake(self, played: Round, house: House, seen: list[Seen]) -> list[bytes]:
        """Let one that stood still go on, and read the runs there that it believed to have."""
        if not (played.first.act == "stop" and house.stuck.is_set()):
            return []
        await self._go_on(house)
        logs = [await followed(house, self.tenant.token, one.run_id) for one in seen]
        return [b"\n\n".join(frames(log)) for log in logs]

    async def _go_on(self, house: House) -> None:
        if str(house.number) not in self._at:
            await house.stopped()
            house.signal(signal.SIGCONT)
            self._at[str(house.number)] = "woken"

    async def _children_end(self) -> None:
        while await self._left():  # noqa: ASYNC110  any process may be the one that ends it
            await asyncio.sleep(0.05)

    async def _left(self) -> list[str]:
        rows = await self.fetch("SELECT external_id, status FROM runs WHERE status IN ('queued', 'running')")
        return [f"{row['external_id']} is {row['status']}" for row in rows]

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._asking:
            return await self.owner.fetch(query, *arguments)

    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _at: dict[str, str] = field(default_factory=dict)
    """What each client is about."""
    _scripts: dict[str, Script] = field(default_factory=dict)
    _early: list[str] = field(default_factory=list)
    """What a model was asked too early."""

    async def watch(self, request: dict[str, Any]) -> None:
        """What a model is asked for when it is asked must be in the journal: the answers before, and what came of
        their calls."""
        said, step = asked_for(request)
        script = self._scripts.get(said)
        if script is None or not step:
            return
        rows = await self.fetch(
            "SELECT s.name FROM run_steps s JOIN runs r ON r.project_id = s.project_id AND r.id = s.run_id"
            " WHERE r.external_id = $1",
            said,
        )
        missing = expected(script, step) - Counter(row["name"].rpartition(":")[0] or row["name"] for row in rows)
        if missing:
            self._early.append(f"{said}: the model was asked for answer {step + 1} before {dict(missing)} was recorded")

    async def undelivered(self, rounds: Sequence[Round]) -> list[str]:
        """What is wrong with the mails of these rounds, once a worker that nobody kills has had its time."""
        worker = await self.open(work=True)
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                while await self.fetch("SELECT FROM emails WHERE status NOT IN ('sent', 'failed') LIMIT 1"):  # noqa: ASYNC110  another process writes
                    await asyncio.sleep(0.1)
        except TimeoutError:
            rows = await self.fetch(
                "SELECT m.subject, m.status, (SELECT array_agg(coalesce(e.detail, e.kind)) FROM email_events e"
                " WHERE e.email_id = m.id) FROM emails m WHERE m.status <> 'sent'"
            )
            return [f"mails wait: {[tuple(row) for row in rows]}"]
        finally:
            await worker.close()
        effects = [effect for one in rounds for script in one.scripts for effect in script.effects]
        rows = await self.fetch("SELECT subject FROM emails")
        wanted = {row["subject"] for row in rows} | {effect.name for effect in effects if effect.kind == "mail"}
        given_up = {effect.name for one in rounds for script in one.cancelled for effect in script.effects}
        wanted -= given_up - {row["subject"] for row in rows}
        arrived = Counter(mail["subject"] for mail in self.post.mails)
        keys = {(one.body["subject"], one.key) for one in self.post.requests}
        faults = [f"mail '{name}' arrived {arrived[name]} times" for name in sorted(wanted) if arrived[name] != 1]
        if len(keys) != len(arrived):
            faults.append(f"{len(arrived)} mails came under {len(keys)} keys")
        return faults


def fate(house: House) -> str:
    """What became of it by now."""
    if house.stuck.is_set():
        return STOOD_STILL
    if house.code == -signal.SIGKILL:
        return KILLED
    return ENDED if house.ended.is_set() else LIVES


@asynccontextmanager
async def lane(
    houses: Houses, urls: DatabaseUrls, tenant: Tenant, owner: Owner, files: Path, *defects: str
) -> AsyncIterator[Lane]:
    await owner.execute("ALTER TABLE projects ALTER approval_policy SET DEFAULT 'never'")
    await owner.execute("UPDATE projects SET approval_policy = 'never'")
    async with scripted_model() as model, resend() as post:
        opened = Lane(houses, urls, tenant, owner, model, post, files, defects)
        model.watch = opened.watch
        try:
            opened.heirs = [await opened.open(), await opened.open()]
            yield opened
        finally:
            for house in opened.heirs:
                await house.close()
