"""What must hold after a round: what its clients saw, what the tables have, and what was done in the world."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from tests.agents.inn import Stream, followed
from tests.conftest import Tenant
from tests.killing.houses import House
from tests.killing.rounds import Effect, Script

ENDS: Final = ("RUN_FINISHED", "RUN_ERROR")
IN_TIME: Final = timedelta(seconds=0.75)
"""Within which a run that is asked to end may still end by itself: it was about to. No lease runs out in that time."""
DONE: Final = {
    "project": "SELECT created_at FROM projects WHERE name = $1",
    "mail": "SELECT created_at FROM emails WHERE subject = $1",
    "file": "SELECT created_at FROM files WHERE path = $1 || '.txt'",
    "run": "SELECT created_at FROM runs WHERE input -> 'messages' -> 0 ->> 'content' = $1",
}


@dataclass
class Seen:
    """What one client got of its run, from wherever it got it: whole events, as they were on the wire. ``cancelled``:
    it was told that its run will end."""

    script: Script
    run_id: str = ""
    frames: list[bytes] = field(default_factory=list)
    cancelled: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0

    def hear(self, stream: Stream) -> None:
        self._count = len(self.frames) + len(stream.ids)
        self._news.set()

    async def has(self, events: int) -> None:
        """Wait until it has so many of them."""
        while self._count < events:
            self._news.clear()
            await self._news.wait()

    def take(self, stream: Stream) -> None:
        self.frames += frames(stream)

    def over(self) -> bool:
        return bool(self.frames) and told(self.frames[-1:])[0]["type"] in ENDS

    @property
    def log(self) -> bytes:
        return b"\n\n".join(self.frames)


def frames(stream: Stream) -> list[bytes]:
    """The whole events of what came, without comments."""
    *whole, _torn = stream.raw.split(b"\n\n")
    return [frame for frame in whole if frame.startswith(b"id: ")]


def told(of: Sequence[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame.split(b"\ndata: ", 1)[1]) for frame in of]


class Fetch(Protocol):
    def __call__(self, query: str, *arguments: Any) -> Awaitable[list[asyncpg.Record]]: ...


@dataclass(frozen=True)
class Verdict:
    """``fetch`` asks the database as its owner; ``heirs`` are the houses that nothing happened to."""

    fetch: Fetch
    heirs: Sequence[House]
    tenant: Tenant

    async def faults(self, seen: Sequence[Seen], witness: Seen, paused: Sequence[bytes]) -> list[str]:
        """``witness`` read the first run elsewhere from its beginning; ``paused``: the logs as who stood still has
        them."""
        faults = []
        for number, one in enumerate(seen):
            logs = [one.log, *([witness.log] if number == 0 else []), *paused[number : number + 1]]
            logs += [await self._log(heir, one.run_id) for heir in self.heirs]
            found = [f"{len(set(logs))} different logs were read"] if len(set(logs)) != 1 else []
            found += await self._wrong(one)
            faults += [f"{one.script.said}: {fault}" for fault in found]
        return faults

    async def done(self, seen: Sequence[Seen]) -> dict[Effect, int]:
        """How often each effect of these runs was carried out."""
        return {effect: len(await self._done(effect)) for one in seen for effect in one.script.effects}

    async def done_since(self, seen: Sequence[Seen], before: Mapping[Effect, int]) -> list[str]:
        """What was done of these runs after they had ended."""
        now = await self.done(seen)
        return [
            f"{effect.kind} '{effect.name}' was done when its run was over"
            for effect, times in now.items()
            if times != before[effect]
        ]

    async def _log(self, house: House, run_id: str) -> bytes:
        return b"\n\n".join(frames(await followed(house, self.tenant.token, run_id)))

    async def unwritten(self, names: Sequence[str]) -> list[str]:
        """What of these acknowledged writes is not there, or more than once."""
        rows = await self.fetch("SELECT name, count(*) FROM projects WHERE name = ANY ($1) GROUP BY name", list(names))
        counted = {row["name"]: row["count"] for row in rows}
        return [
            f"'{name}' was acknowledged and is there {counted.get(name, 0)} times"
            for name in names
            if counted.get(name) != 1
        ]

    async def _wrong(self, seen: Seen) -> list[str]:
        rows = await self.fetch(
            "SELECT id, status, last_seq, ended_at, cancel_requested_at FROM runs WHERE external_id = $1",
            seen.script.said,
        )
        if [(str(row["id"]), row["last_seq"]) for row in rows] != [(seen.run_id, len(seen.frames))]:
            return [f"its rows are {[tuple(row) for row in rows]}"]
        [run] = rows
        if run["status"] == "cancelled" and run["cancel_requested_at"] is not None:
            return [*cut_short_wrong(seen), *await self._stored_wrong(seen), *await self._cut_short(seen, run)]
        if run["status"] != "succeeded":
            return [f"it is {run['status']}: {seen.frames[-1]!r}"]
        faults = [*told_wrong(seen), *await self._stored_wrong(seen), *await self._complete(seen)]
        if seen.cancelled and run["ended_at"] - run["cancel_requested_at"] > IN_TIME:
            faults.append(f"it was to end from {run['cancel_requested_at']} on, and went on until {run['ended_at']}")
        return faults

    async def _stored_wrong(self, seen: Seen) -> list[str]:
        stored = await self.fetch("SELECT seq, event FROM run_events WHERE run_id = $1 ORDER BY seq", UUID(seen.run_id))
        if [b"id: %d\ndata: %b" % (row["seq"], row["event"]) for row in stored] != seen.frames:
            return ["the table has another log than was read"]
        return []

    async def _complete(self, seen: Seen) -> list[str]:
        """What is wrong of a run that did all it was to do."""
        faults = []
        journal, should = await self._journal(seen), expected(seen.script)
        if journal != should:
            faults.append(f"its journal has {dict(journal)}, and should have {dict(should)}")
        messages = await self.fetch("SELECT role FROM messages WHERE run_id = $1 ORDER BY position", UUID(seen.run_id))
        if len(messages) != 2 * len(seen.script.answers):
            faults.append(f"its thread has the messages {[row['role'] for row in messages]}")
        for effect in seen.script.effects:
            done = await self._done(effect)
            if len(done) != 1:
                results = [event["content"] for event in told(seen.frames) if event["type"] == "TOOL_CALL_RESULT"]
                faults.append(f"{effect.kind} '{effect.name}' was done {len(done)} times; the results are {results}")
        return faults

    async def _cut_short(self, seen: Seen, run: asyncpg.Record) -> list[str]:
        """What is wrong of a run that was cancelled: it may have done less, and nothing after its end."""
        faults = []
        journal = await self._journal(seen)
        if journal - expected(seen.script):
            faults.append(f"its journal has {dict(journal)}")
        results = sum(event["type"] == "TOOL_CALL_RESULT" for event in told(seen.frames))
        done = {effect: await self._done(effect) for effect in seen.script.effects}
        if results > sum(len(times) for times in done.values()):
            faults.append(f"it tells of {results} effects, and there are {done}")
        for effect, times in done.items():
            if len(times) > 1 or any(time > run["ended_at"] for time in times):
                faults.append(f"{effect.kind} '{effect.name}' was done at {times}; the run ended at {run['ended_at']}")
        return faults

    async def _journal(self, seen: Seen) -> Counter[str]:
        steps = await self.fetch("SELECT name FROM run_steps WHERE run_id = $1", UUID(seen.run_id))
        return Counter(row["name"].rpartition(":")[0] or row["name"] for row in steps)

    async def _done(self, effect: Effect) -> list[Any]:
        return [row["created_at"] for row in await self.fetch(DONE[effect.kind], effect.name)]


def expected(script: Script, answers: int | None = None) -> Counter[str]:
    """The steps of a run up to so many answers of its model, by kind and step."""
    until = script.answers[:answers]
    return Counter({f"tool:{step}": len(calls) for step, (_words, calls) in enumerate(until, 1) if calls}) + Counter(
        {"model": len(until)}
    )


def told_wrong(seen: Seen) -> list[str]:
    """What of its events a client could not make sense of."""
    faults, said, calls, results = read(seen)
    if said != seen.script.text:
        faults.append(f"it said {said!r}, and should have said {seen.script.text!r}")
    if results != calls:
        faults.append(f"its calls are {dict(calls)}, its results {dict(results)}")
    if len(results) != len(seen.script.effects):
        faults.append(f"it has {len(results)} results of {len(seen.script.effects)} effects")
    return faults


def cut_short_wrong(seen: Seen) -> list[str]:
    """The same of a run that was cancelled."""
    faults, said, calls, results = read(seen)
    if not seen.script.text.startswith(said):
        faults.append(f"it said {said!r}, which does not begin {seen.script.text!r}")
    if results - calls:
        faults.append(f"its calls are {dict(calls)}, its results {dict(results)}")
    if seen.frames and told(seen.frames[-1:])[0].get("outcome") != {"type": "cancelled"}:
        faults.append(f"its end is {seen.frames[-1]!r}")
    return faults


def read(seen: Seen) -> tuple[list[str], str, Counter[str], Counter[str]]:
    """What is wrong with it in any case; what was said, called and answered, and counts."""
    events = told(seen.frames)
    faults = []
    if [int(frame[4 : frame.index(b"\n")]) for frame in seen.frames] != list(range(1, len(seen.frames) + 1)):
        faults.append("its events are not numbered one by one")
    if [event["type"] for event in events if event["type"] in ENDS] != ["RUN_FINISHED"]:
        faults.append(f"its ends are {[event for event in events if event['type'] in ENDS]}")
    dropped = {one for event in events if event["type"] == "CUSTOM" for ids in event["value"].values() for one in ids}
    texts = [event for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    said = "".join(event["delta"] for event in texts if event["messageId"] not in dropped)
    calls = Counter(event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_START")
    results = Counter(event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_RESULT")
    return faults, said, Counter(one for one in calls.elements() if one not in dropped), results
