"""Rounds of killing, chosen by seeds: nothing is done twice, nothing acknowledged is lost, and every run ends.

``--log-cli-level=INFO`` tells of each round. ``INNKEEPER_KILL_SEEDS=17,1250-1499`` plays these.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from db.credentials import Authenticator
from db.embedded.cluster import EmbeddedPostgres
from tests.conftest import House, fresh_database, opened
from tests.killing.defects import DEFECTS, UNFENCED, build_into
from tests.killing.houses import Houses
from tests.killing.lane import KILLED, LIVES, Lane, lane
from tests.killing.points import EVERY
from tests.killing.rounds import Round

pytestmark = pytest.mark.promise("RUN-25")
log = logging.getLogger("tests.killing")
logging.getLogger("httpx2").setLevel(logging.WARNING)

LANES = 4
MANY_LANES = 6


@asynccontextmanager
async def open_lane(houses: Houses, cluster: EmbeddedPostgres, *defects: str) -> AsyncIterator[Lane]:
    """On a database of its own."""
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(fresh_database(cluster))
        owner = await asyncpg.connect(urls.owner)
        stack.push_async_callback(owner.close)
        database = await stack.enter_async_context(opened(urls))
        authenticator = Authenticator(database)
        await authenticator.start()
        tenant = await House(owner, authenticator).tenant()
        files = Path(stack.enter_context(TemporaryDirectory()))
        for defect in UNFENCED.keys() & defects:
            await build_into(owner, defect)
        yield await stack.enter_async_context(lane(houses, urls, tenant, owner, files, *(DEFECTS.keys() & defects)))


@dataclass
class Killing:
    """Rounds of these seeds, one after the other or several at a time, until so many processes were killed."""

    seeds: Iterator[int]
    kills: float = inf
    faults: dict[str, list[str]] = field(default_factory=dict)
    fates: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def killed(self) -> int:
        """How many processes died in the middle of what they did."""
        return sum(times for (_point, fate), times in self.fates.items() if fate == KILLED)

    @property
    def reached(self) -> set[str]:
        return {point for point, fate in self.fates if fate != LIVES}

    async def in_lane(self, lane: Lane) -> None:
        lane.fates = self.fates
        rounds = []
        while self.killed < self.kills and (seed := next(self.seeds, None)) is not None:
            rounds.append(Round.of(seed))
            self.note(f"seed {seed}", await lane.play(rounds[-1]))
        self.note("mails", await lane.undelivered(rounds))

    def note(self, what: str, found: list[str]) -> None:
        log.info("%d killed, %s: %s", self.killed, what, "; ".join(found) or "holds")
        if found:
            self.faults[what] = [*self.faults.get(what, ()), *found]


async def kill(houses: Houses, cluster: EmbeddedPostgres, seeds: Iterator[int], kills: int, lanes: int) -> Killing:
    """Kill so many, or in all the rounds that INNKEEPER_KILL_SEEDS names, several at a time."""
    named = os.environ.get("INNKEEPER_KILL_SEEDS", "")
    killing = Killing(seeds_of(named)) if named else Killing(seeds, kills)

    async def some() -> None:
        async with open_lane(houses, cluster) as opened_lane:
            await killing.in_lane(opened_lane)

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(some())
    log.info("%d killed; %s", killing.killed, dict(killing.fates))
    assert not killing.faults, "\n".join(f"{what}: {one}" for what, found in killing.faults.items() for one in found)
    assert named or killing.killed >= kills
    # Nearly: how often a point is passed is a matter of time, too.
    assert named or len(set(EVERY) - killing.reached) <= 3
    return killing


def seeds_of(named: str) -> Iterator[int]:
    for part in named.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@pytest.mark.timeout(900)
async def test_after_50_seeded_kills_nothing_was_done_twice_or_lost_and_every_run_has_ended(
    houses: Houses, cluster: EmbeddedPostgres
) -> None:
    await kill(houses, cluster, count(), 50, LANES)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
async def test_after_1000_seeded_kills_nothing_was_done_twice_or_lost_and_every_run_has_ended(
    houses: Houses, cluster: EmbeddedPostgres
) -> None:
    await kill(houses, cluster, count(1000), int(os.environ.get("INNKEEPER_KILLS", "1000")), MANY_LANES)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("defect", "seeds"),
    [
        ("no record of tools", [0]),
        ("no idempotency key", [7]),
        ("results are told again", [0, 148]),
        ("no messages", [8]),
        ("no replay", [8]),
        ("steps are not waited for", [20]),
        ("calls are not waited for", [20]),
        ("events are shown at once", [49]),
        ("ends are told at once", [50]),
        ("writes are answered at once", [51]),
        ("writes are answered at once", [24]),
        ("no handing over", [451]),
        ("cancels are forgotten", [127, 17, 177]),
        ("mails have new keys", [251]),
        ("no fence of events", [793, 121, 233]),
        ("no fence of effects", [257]),
    ],
)
async def test_a_defect_that_is_built_into_the_houses_is_found(
    houses: Houses, cluster: EmbeddedPostgres, defect: str, seeds: list[int]
) -> None:
    killing = Killing(iter(seeds))
    async with open_lane(houses, cluster, defect) as opened_lane:
        await killing.in_lane(opened_lane)
    assert killing.faults
