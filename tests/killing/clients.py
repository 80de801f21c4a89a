"""Who uses the houses of a round while these die: readers, writers, and those who change their minds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import uuid4

import httpx2

from tests.agents.inn import body, following, running, user
from tests.conftest import Tenant
from tests.killing.houses import House
from tests.killing.rounds import Script
from tests.killing.verdict import Fetch, Seen

BUSY: Final = (429, 503)
WRITES: Final = 4
T = TypeVar("T")


class MovedError(Exception):
    """The house stands still: ask another one."""


@dataclass(frozen=True)
class Clients:
    """``order``: the houses they ask, one after the other; nothing happens to the last. ``at``: what each is about."""

    tenant: Tenant
    order: Sequence[House]
    fetch: Fetch
    at: dict[str, str]

    async def read(self, seen: Seen) -> None:
        """Starts its run, and reads it to its end, from one house after the other."""
        script = seen.script
        asked = body(user(script.said, message_id="m"), thread=script.said, run=script.said)
        while not seen.over():
            for house in self.order:
                if house.ended.is_set() or house.stuck.is_set():
                    continue
                self.at[script.said] = f"reads {house.number} after {len(seen.frames)}"
                # It may have told everything before it broke off.
                with suppress(httpx2.TransportError, MovedError):
                    await unless_stuck(house, self._read(house, seen, asked))
                if seen.over():
                    break
        self.at[script.said] = "done"

    async def cancel(self, seen: Seen, after: int, reading: asyncio.Task[None]) -> None:
        """Ask for the end of a run until that is acknowledged, unless it is over before."""
        house = self.order[0]
        for_what = (seen.has(after),) if after else (house.ended.wait(), house.stuck.wait())
        waits = [asyncio.create_task(one) for one in for_what]
        try:
            await asyncio.wait([*waits, reading], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        while not (reading.done() or seen.cancelled):
            for house in self.order:
                if seen.run_id and not (house.ended.is_set() or house.stuck.is_set()):
                    with suppress(httpx2.TransportError, MovedError):
                        seen.cancelled = await unless_stuck(house, self._ask_for_the_end(house, seen.run_id))
                    if seen.cancelled:
                        return
            await asyncio.sleep(0.01)

    async def _ask_for_the_end(self, house: House, run_id: str) -> bool:
        bearer = {"authorization": f"Bearer {self.tenant.token}"}
        answer = await house.client.post(f"{house.url}/runs/{run_id}/cancel", headers=bearer)
        assert answer.status_code in (200, 202, *BUSY), answer.text
        return answer.status_code == 202

    async def _read(self, house: House, seen: Seen, asked: dict[str, Any]) -> None:
        token = self.tenant.token
        opened = following(house, token, seen.run_id, len(seen.frames)) if seen.run_id else running(house, token, asked)
        async with opened as (stream, response):
            try:
                if response.status_code in BUSY:
                    return
                assert response.status_code == 200, (response.status_code, stream.problem, seen.frames[-1:])
                seen.run_id = response.headers.get("innkeeper-run-id", seen.run_id)
                async for data in response.aiter_raw():
                    stream.feed(data)
                    seen.hear(stream)
            finally:
                seen.take(stream)

    async def witness(self, script: Script) -> Seen:
        """Reads a run from its beginning in a house that goes on living."""
        seen = Seen(script)
        while not seen.run_id:
            found = await self.fetch("SELECT id FROM runs WHERE external_id = $1", script.said)
            seen.run_id = str(found[0]["id"]) if found else ""
            await asyncio.sleep(0.02)
        self.at["witness"] = f"reads {seen.run_id}"
        while not seen.over():
            async with following(self.order[-1], self.tenant.token, seen.run_id, len(seen.frames)) as (
                stream,
                response,
            ):
                async for data in response.aiter_raw():
                    stream.feed(data)
                seen.take(stream)
        self.at["witness"] = "done"
        return seen

    async def write(self, name: str) -> list[str]:
        """Writes of a client of its own, each repeated under its key until it is acknowledged; their names."""
        written = []
        for number in range(WRITES):
            key, answered = str(uuid4()), False
            while not answered:
                for house in self.order:
                    if house.ended.is_set() or house.stuck.is_set():
                        continue
                    self.at[name] = f"writes {number} to {house.number}"
                    try:
                        answered = await unless_stuck(house, self._create(house, f"{name} {number}", key))
                    except (httpx2.TransportError, MovedError):
                        continue
                    if answered:
                        break
            written.append(f"{name} {number}")
        self.at[name] = "done"
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
