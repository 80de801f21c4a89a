"""Rounds of killing, chosen by seeds: nothing is done twice, nothing acknowledged is lost, and every run ends.

``--log-cli-level=INFO`` tells of each round. ``INNKEEPER_KILL_SEEDS=17,1250-1499`` plays these.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from db.credentials import Authenticator
from db.embedded.cluster import EmbeddedPostgres
from tests.conftest import House, fresh_database, opened
from tests.killing.defects import DEFECTS, UNFENCED, build_into
from tests.killing.houses import Houses
from tests.killing.lane import Lane, lane
from tests.killing.points import EVERY
from tests.killing.rounds import Round

pytestmark = pytest.mark.promise("RUN-25")
log = logging.getLogger("tests.killing")
logging.getLogger("httpx2").setLevel(logging.WARNING)

LANES = 5
SHORT = range(50)
LONG = range(1000, 1000 + int(os.environ.get("INNKEEPER_KILLS", "1000")))


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


async def faults_of(lane: Lane, seeds: Sequence[int]) -> dict[int, list[str]]:
    """What did not hold, by the seed of its round; the mails of all under -1."""
    rounds = [Round.of(seed) for seed in seeds]
    faults = {}
    for number, played in enumerate(rounds, 1):
        faults[played.seed] = found = await lane.play(played)
        log.info("%d of %d, seed %d: %s", number, len(rounds), played.seed, "; ".join(found) or "holds")
    faults[-1] = await lane.undelivered(rounds)
    return {seed: found for seed, found in faults.items() if found}


async def kill(houses: Houses, cluster: EmbeddedPostgres, seeds: Sequence[int]) -> Counter[str]:
    """Play them all, some at a time; how many died at each point."""

    async def some(number: int) -> tuple[dict[int, list[str]], Counter[str]]:
        async with open_lane(houses, cluster) as opened_lane:
            return await faults_of(opened_lane, seeds[number::LANES]), opened_lane.killed

    played = await asyncio.gather(*(some(number) for number in range(min(LANES, len(seeds)))))
    faults = {seed: found for found_by_seed, _killed in played for seed, found in found_by_seed.items()}
    assert not faults, "\n".join(f"seed {seed}: {one}" for seed, found in faults.items() for one in found)
    return sum((killed for _faults, killed in played), Counter())


def seeds_of(usual: Sequence[int]) -> Sequence[int]:
    """Those that INNKEEPER_KILL_SEEDS names, if it does."""
    named = os.environ.get("INNKEEPER_KILL_SEEDS", "")
    if not named:
        return usual
    pairs = [part.partition("-") for part in named.split(",")]
    return [seed for first, _, last in pairs for seed in range(int(first), int(last or first) + 1)]


@pytest.mark.timeout(900)
async def test_after_50_seeded_kills_nothing_was_done_twice_or_lost_and_every_run_has_ended(
    houses: Houses, cluster: EmbeddedPostgres
) -> None:
    seeds = seeds_of(SHORT)
    killed = await kill(houses, cluster, seeds)
    assert killed.total() >= len(seeds)
    if seeds == SHORT:
        # Nearly: how often a point is passed is a matter of time, too.
        assert len(set(EVERY) - killed.keys()) <= 3
        assert killed["afterwards"] < killed.total() / 3


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_after_1000_seeded_kills_nothing_was_done_twice_or_lost_and_every_run_has_ended(
    houses: Houses, cluster: EmbeddedPostgres
) -> None:
    seeds = seeds_of(LONG)
    killed = await kill(houses, cluster, seeds)
    assert killed.total() >= len(seeds)
    assert killed["afterwards"] < killed.total() / 3


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("defect", "seeds"),
    [
        ("no record of tools", [0]),
        ("no idempotency key", [7]),
        ("results are told again", [0]),
        ("no messages", [0]),
        ("no replay", [36]),
        ("steps are not waited for", [20]),
        ("calls are not waited for", [20]),
        ("events are shown at once", [49]),
        ("ends are told at once", [50]),
        ("writes are answered at once", [51]),
        ("writes are answered at once", [52]),
        ("no handing over", [31]),
        ("cancels are forgotten", [37]),
        ("mails have new keys", [83]),
        ("no fence of events", [597]),
        ("no fence of effects", [929]),
    ],
)
async def test_a_defect_that_is_built_into_the_houses_is_found(
    houses: Houses, cluster: EmbeddedPostgres, defect: str, seeds: list[int]
) -> None:
    async with open_lane(houses, cluster, defect) as opened_lane:
        assert await faults_of(opened_lane, seeds)
