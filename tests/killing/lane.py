"""Where rounds are played one after the other: a database, its tenant, two houses that live on, and what they reach."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import asyncpg
import httpx2

from tests.agents.inn import Stream, body, followed, following, running, user
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.resend_server import KEY, ResendServer, resend
from tests.fakes.script import Turn
from tests.killing.houses import House, Houses
from tests.killing.points import Point
from tests.killing.rounds import Effect, Round, Script

LEASE: Final = 1.5
ROUND_SECONDS: Final = 120
WRITES: Final = 4
ENDS: Final = ("RUN_FINISHED", "RUN_ERROR")
T = TypeVar("T")


@dataclass
class Seen:
    """What one client got of its run, from wherever it got it: whole events, as they were on the wire."""

    script: Script
    run_id: str = ""
    frames: list[bytes] = field(default_factory=list)

    def take(self, stream: Stream) -> None:
        *whole, _torn = stream.raw.split(b"\n\n")
        self.frames += [frame for frame in whole if frame.startswith(b"id: ")]

    def over(self) -> bool:
        return bool(self.frames) and events(self.frames[-1:])[0]["type"] in ENDS


def events(frames: Sequence[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame.split(b"\ndata: ", 1)[1]) for frame in frames]


class MovedError(Exception):
    """The house stands still: ask another one."""


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
    killed: Counter[str] = field(default_factory=Counter)

    async def open(self, *points: Point, work: bool = False, look: float | None = None) -> House:
        settings = {
            "RESEND_API_KEY": KEY,
            "RESEND_API_URL": self.post.url,
            "EMAIL_FROM_DEFAULT": "inn@example.com",
            "INNKEEPER_JOB_LEASE_SECONDS": "2",
            "INNKEEPER_DATABASE_POOL_MAX": "6",
        }
        return await self.houses.open(
            *(self.urls, self.model.base_url),
            points=points,
            lease=LEASE,
            look=look,
            work=work,
            files=self.files,
            settings=settings,
            defects=self.defects,
        )

    async def play(self, played: Round) -> list[str]:
        """Everything that does not hold after this round, in words."""
        project = str(self.tenant.project_id)
        for script in played.scripts:
            self.model.play(script.said, *script.turns(project))
        self._at.clear()
        dying = [await self.open(played.first, work=True)]
        if played.second is not None:
            dying.append(await self.open(played.second, work=True, look=0.05))
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                seen, witness, written = await self._carry_out(played, dying)
                paused = await self._wake(played, dying[0], seen)
                await self._children_end()
        except (TimeoutError, httpx2.ReadTimeout):
            return [f"after {ROUND_SECONDS} s it is not over: {await self._left()}, {self._at}"]
        except ExceptionGroup as group:
            return [f"a client broke off: {error!r}" for error in group.exceptions]
        finally:
            for house, point in zip(dying, (played.first, played.second), strict=False):
                there = house.ended.is_set() or house.stuck.is_set()
                self.killed[point.name if point and there else "afterwards"] += 1
                await house.close()
        return [*await self._faults(seen, witness, paused), *await self._unwritten(written)]

    async def _carry_out(self, played: Round, dying: list[House]) -> tuple[list[Seen], Seen, list[str]]:
        order = [*dying, *self.heirs]
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._client(script, order)) for script in played.scripts]
            writing = group.create_task(self._write(f"written {played.scripts[0].said}", order))
            witness = group.create_task(self._witness(played.scripts[0]))
        return [client.result() for client in clients], witness.result(), writing.result()

    async def _client(self, script: Script, order: list[House]) -> Seen:
        """Starts its run, and reads it to its end, from one house after the other."""
        seen = Seen(script)
        asked = body(user(script.said, message_id="m"), thread=script.said, run=script.said)
        while not seen.over():
            for house in order:
                if house.ended.is_set() or house.stuck.is_set():
                    continue
                self._at[script.said] = f"reads {house.number} after {len(seen.frames)}"
                try:
                    await unless_stuck(house, self._read(house, seen, asked))
                except (httpx2.TransportError, MovedError):
                    continue
                if seen.over():
                    break
        self._at[script.said] = "done"
        return seen

    async def _read(self, house: House, seen: Seen, asked: dict[str, Any]) -> None:
        token = self.tenant.token
        opened = following(house, token, seen.run_id, len(seen.frames)) if seen.run_id else running(house, token, asked)
        async with opened as (stream, response):
            try:
                if response.status_code == 503:
                    return
                assert response.status_code == 200, stream.problem
                seen.run_id = response.headers.get("innkeeper-run-id", seen.run_id)
                async for data in response.aiter_raw():
                    stream.feed(data)
            finally:
                seen.take(stream)

    async def _witness(self, script: Script) -> Seen:
        """Reads a run from its beginning in a house that goes on living."""
        seen = Seen(script)
        while not seen.run_id:
            found = await self.fetch("SELECT id FROM runs WHERE external_id = $1", script.said)
            seen.run_id = str(found[0]["id"]) if found else ""
            await asyncio.sleep(0.02)
        self._at["witness"] = f"reads {seen.run_id}"
        while not seen.over():
            async with following(self.heirs[1], self.tenant.token, seen.run_id, len(seen.frames)) as (stream, response):
                async for data in response.aiter_raw():
                    stream.feed(data)
                seen.take(stream)
        self._at["witness"] = "done"
        return seen

    async def _write(self, name: str, order: list[House]) -> list[str]:
        """Writes of a client of its own, each repeated under its key until it is acknowledged; their names."""
        written = []
        for number in range(WRITES):
            key, answered = str(uuid4()), False
            while not answered:
                for house in order:
                    if house.ended.is_set() or house.stuck.is_set():
                        continue
                    self._at[name] = f"writes {number} to {house.number}"
                    try:
                        answered = await unless_stuck(house, self._create(house, f"{name} {number}", key))
                    except (httpx2.TransportError, MovedError):
                        continue
                    if answered:
                        break
            written.append(f"{name} {number}")
        self._at[name] = "done"
        return written

    async def _create(self, house: House, name: str, key: str) -> bool:
        params = {"name": "create_project", "arguments": {"name": name}, "_meta": {"innkeeper/idempotency_key": key}}
        answer = await house.client.post(
            f"{house.url}/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            headers={
                "authorization": f"Bearer {self.tenant.token}",
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2025-06-18",
            },
        )
        return answer.status_code == 200 and not answer.json()["result"].get("isError")

    async def _wake(self, played: Round, house: House, seen: list[Seen]) -> list[bytes]:
        """Let one that stood still go on, and read the runs there that it believed to have."""
        if not (played.pauses and house.stuck.is_set()):
            return []
        await house.stopped()
        house.signal(signal.SIGCONT)
        self._at["woken"] = str(house.number)
        logs = [await followed(house, self.tenant.token, one.run_id) for one in seen]
        return [b"\n\n".join(part for part in log.raw.split(b"\n\n") if part.startswith(b"id: ")) for log in logs]

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

    async def _faults(self, seen: list[Seen], witness: Seen, paused: list[bytes]) -> list[str]:
        faults: list[str] = []
        for number, one in enumerate(seen):
            logs = [b"\n\n".join(one.frames)]
            logs += [b"\n\n".join(witness.frames)] if number == 0 else []
            logs += paused[number : number + 1]
            for heir in self.heirs:
                again = Seen(one.script)
                again.take(await followed(heir, self.tenant.token, one.run_id))
                logs.append(b"\n\n".join(again.frames))
            if len(set(logs)) != 1:
                faults.append(f"{one.script.said}: {len(set(logs))} different logs were read")
            faults += [f"{one.script.said}: {fault}" for fault in told_wrong(one)]
            faults += [f"{one.script.said}: {fault}" for fault in await self._stored_wrong(one)]
            for effect in one.script.effects:
                count = await self._done(effect)
                if count != 1:
                    results = [event["content"] for event in events(one.frames) if event["type"] == "TOOL_CALL_RESULT"]
                    faults.append(f"{effect.kind} '{effect.name}' was done {count} times; the results are {results}")
        return faults

    async def _stored_wrong(self, seen: Seen) -> list[str]:
        run_id = UUID(seen.run_id)
        faults = []
        rows = await self.fetch("SELECT id, status, last_seq FROM runs WHERE external_id = $1", seen.script.said)
        if [(row["id"], row["status"], row["last_seq"]) for row in rows] != [(run_id, "succeeded", len(seen.frames))]:
            faults.append(f"its rows are {[tuple(row) for row in rows]}")
        stored = await self.fetch("SELECT seq, event FROM run_events WHERE run_id = $1 ORDER BY seq", run_id)
        if [b"id: %d\ndata: %b" % (row["seq"], row["event"]) for row in stored] != seen.frames:
            faults.append("the table has another log than was read")
        steps = await self.fetch("SELECT name FROM run_steps WHERE run_id = $1", run_id)
        journal = Counter(row["name"].rpartition(":")[0] or row["name"] for row in steps)
        should = Counter({f"tool:{step}": len(calls) for step, (_words, calls) in enumerate(seen.script.answers, 1)})
        if +journal != +should + Counter({"model": len(seen.script.answers)}):
            faults.append(f"its journal has {dict(journal)}, and should have {dict(should)}")
        messages = await self.fetch(
            "SELECT m.role FROM messages m JOIN runs r ON r.project_id = m.project_id AND r.id = m.run_id"
            " WHERE r.id = $1 ORDER BY m.position",
            run_id,
        )
        if len(messages) != 2 * len(seen.script.answers):
            faults.append(f"its thread has the messages {[row['role'] for row in messages]}")
        return faults

    async def _done(self, effect: Effect) -> int:
        queries = {
            "project": "SELECT count(*) FROM projects WHERE name = $1",
            "mail": "SELECT count(*) FROM emails WHERE subject = $1",
            "file": "SELECT count(*) FROM files WHERE path = $1 || '.txt'",
            "run": "SELECT count(*) FROM runs WHERE input -> 'messages' -> 0 ->> 'content' = $1",
        }
        [row] = await self.fetch(queries[effect.kind], effect.name)
        return int(row["count"])

    async def _unwritten(self, names: list[str]) -> list[str]:
        rows = await self.fetch("SELECT name, count(*) FROM projects WHERE name = ANY ($1) GROUP BY name", names)
        counted = {row["name"]: row["count"] for row in rows}
        return [
            f"'{name}' was acknowledged and is there {counted.get(name, 0)} times"
            for name in names
            if counted.get(name) != 1
        ]

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
        wanted = [effect.name for effect in effects if effect.kind == "mail"]
        arrived = Counter(mail["subject"] for mail in self.post.mails)
        keys = {(one.body["subject"], one.key) for one in self.post.requests}
        faults = [f"mail '{name}' arrived {arrived[name]} times" for name in wanted if arrived[name] != 1]
        if len(keys) != len(arrived):
            faults.append(f"{len(arrived)} mails came under {len(keys)} keys")
        return faults


def told_wrong(seen: Seen) -> list[str]:
    """What of its events a client could not make sense of."""
    told = events(seen.frames)
    faults = []
    if [int(frame[4 : frame.index(b"\n")]) for frame in seen.frames] != list(range(1, len(seen.frames) + 1)):
        faults.append("its events are not numbered one by one")
    if [event["type"] for event in told if event["type"] in ENDS] != ["RUN_FINISHED"]:
        faults.append(f"its ends are {[event for event in told if event['type'] in ENDS]}")
    dropped = {one for event in told if event["type"] == "CUSTOM" for ids in event["value"].values() for one in ids}
    texts = [event for event in told if event["type"] == "TEXT_MESSAGE_CONTENT"]
    said = "".join(event["delta"] for event in texts if event["messageId"] not in dropped)
    if said != seen.script.text:
        faults.append(f"it said {said!r}, and should have said {seen.script.text!r}")
    calls = Counter(event["toolCallId"] for event in told if event["type"] == "TOOL_CALL_START")
    results = Counter(event["toolCallId"] for event in told if event["type"] == "TOOL_CALL_RESULT")
    if results != Counter(one for one in calls.elements() if one not in dropped):
        faults.append(f"its calls are {dict(calls)}, its results {dict(results)}, dropped {dropped}")
    if len(results) != len(seen.script.effects):
        faults.append(f"it has {len(results)} results of {len(seen.script.effects)} effects")
    return faults


async def unless_stuck(house: House, work: Awaitable[T]) -> T:
    """What ``work`` gives; raises MovedError when the house comes to stand still meanwhile."""
    working, stuck = asyncio.ensure_future(work), asyncio.ensure_future(house.stuck.wait())
    try:
        await asyncio.wait([working, stuck], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        stuck.cancel()
        working.cancel()
        await asyncio.wait([working, stuck])
    raise MovedError


@asynccontextmanager
async def lane(
    houses: Houses, urls: DatabaseUrls, tenant: Tenant, owner: Owner, files: Path, *defects: str
) -> AsyncIterator[Lane]:
    await owner.execute("ALTER TABLE projects ALTER approval_policy SET DEFAULT 'never'")
    await owner.execute("UPDATE projects SET approval_policy = 'never'")
    async with scripted_model() as model, resend() as post:
        opened = Lane(houses, urls, tenant, owner, model, post, files, defects)
        try:
            opened.heirs = [await opened.open(), await opened.open()]
            yield opened
        finally:
            for house in opened.heirs:
                await house.close()


__all__ = ["Lane", "Turn", "lane"]
