"""A simulation of refresh tokens: honest clients with bad luck are never logged out, thieves are always caught.

Each client keeps its token in a store that its processes share, as programs do that keep it in a file. A process reads
the store, asks, and writes the answer back; answers get lost, processes die in between, several ask at once, at either
of two servers, one of which is restarted now and then, and clocks jump. Time passes by moving the rows into the past.
A thief has copied a token at some time and comes with it when its successor has been used for more than a minute.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import pytest

from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.oauth import clients, grants
from db.oauth.clients import HOUSE_CLIENT_ID, Client
from db.oauth.tokens import REFRESH, Issued
from db.tokens import ACCESS, new_token, token_hash
from tests.conftest import DatabaseUrls, Owner, Tenant, opened

HOUR: Final = 3600
GRACE: Final = 60


@dataclass
class Family:
    """One lineage as the outside world sees it. ``used_at``: when each token was first presented, by the clock of the
    database, which is the only one that counts."""

    grant: UUID
    store: str
    now: float = 0.0
    used_at: dict[str, float] = field(default_factory=dict)
    successor: dict[str, str] = field(default_factory=dict)

    def late(self) -> list[str]:
        """What a thief may have, and is caught with."""
        return [
            token
            for token, follower in self.successor.items()
            if self.used_at.get(follower, self.now) < self.now - GRACE
        ]


class World:
    def __init__(self, urls: DatabaseUrls, database: Database, owner: Owner, client: Client, seed: int) -> None:
        self.urls = urls
        self.servers = [database]
        self.owner = owner
        self.client = client
        self.luck = random.Random(seed)
        self.refreshes = 0
        self.replays = 0
        self._moving = asyncio.Lock()

    async def family(self, tenant: Tenant) -> Family:
        grant, token = uuid7(), new_token(REFRESH)
        await self.owner.execute(
            "SELECT create_grant($1, $2, $3, '{projects:read}', NULL, false, 'http://127.0.0.1/mcp')",
            *(grant, tenant.user_id, self.client.id),
        )
        await self.owner.execute(
            "SELECT issue_tokens($1, '{projects:read}', $2, '1 hour', $3, '90 days')",
            *(grant, token_hash(new_token(ACCESS)), token_hash(token)),
        )
        return Family(grant, token)

    async def wait(self, family: Family, seconds: float) -> None:
        """Time passes; with a negative number the clock of the database is set back."""
        family.now += seconds
        async with self._moving:
            await self.owner.execute(
                "UPDATE oauth_refresh_tokens SET expires_at = expires_at - $2 * interval '1 second',"
                " used_at = used_at - $2 * interval '1 second' WHERE credential_id = $1",
                *(family.grant, seconds),
            )

    async def ask(self, token: str) -> Issued:
        return await grants.refresh(self.luck.choice(self.servers), self.client, token, None, None)

    async def present(self, family: Family, token: str) -> str:
        """What an honest process does with what it has read. An ``AppError`` here is a person who is logged out."""
        self.refreshes += 1
        answer = await self.ask(token)
        assert answer.refresh_token is not None
        family.used_at.setdefault(token, family.now)
        assert family.successor.setdefault(token, answer.refresh_token) == answer.refresh_token, "one lineage"
        return answer.refresh_token

    async def step(self, family: Family) -> None:
        await self.wait(family, self.luck.choice((1, 30, HOUR, HOUR, 8 * HOUR, 60 * 24 * HOUR)))
        read = family.store
        misfortune = self.luck.random()
        if misfortune < 0.25:
            # The answer is lost, or the process dies before it writes: whoever comes next has the old token still.
            for _again in range(self.luck.randint(1, 3)):
                await self.present(family, read)
                await self.wait(family, self.luck.choice((0, 5, 2 * HOUR)))
        elif misfortune < 0.5:
            # Several processes read the store at the same time.
            found = await asyncio.gather(*(self.present(family, read) for _ in range(self.luck.randint(2, 5))))
            assert len(set(found)) == 1
        elif misfortune < 0.7:
            # A slow process still has the token before, and the fast one goes on with the new one at once.
            newer = await self.present(family, read)
            newest = await self.present(family, newer)
            await self.wait(family, self.luck.uniform(0, GRACE - 2))
            assert await self.present(family, read) == newer
            assert await self.present(family, newer) == newest
            read = newer
        elif misfortune < 0.8:
            await self.wait(family, -self.luck.choice((1, 90, HOUR)))
        family.store = await self.present(family, read)

    async def steal(self, family: Family) -> None:
        """A thief comes too late with any token of the past: refused, and the family ends."""
        token = self.luck.choice(family.late())
        with pytest.raises(AppError, match="used before") as caught:
            await self.ask(token)
        assert caught.value.code == "invalid_grant"
        with pytest.raises(AppError, match="revoked"):
            await self.ask(family.store)
        self.replays += 1

    async def live(self, tenant: Tenant, refreshes: int) -> None:
        """Families of a few dozen steps, one after the other, until there were enough."""
        while self.refreshes < refreshes:
            family = await self.family(tenant)
            async with opened(self.urls) as restarted:
                self.servers.append(restarted)
                for _ in range(self.luck.randint(10, 40)):
                    await self.step(family)
                self.servers.remove(restarted)
            family.store = await self.present(family, family.store)
            await self.wait(family, 2 * HOUR)
            if family.late():
                await self.steal(family)


async def simulate(
    urls: DatabaseUrls, database: Database, owner: Owner, tenant: Tenant, refreshes: int, seed: int
) -> None:
    client = await clients.find(database, HOUSE_CLIENT_ID)
    assert client is not None
    world = World(urls, database, owner, client, seed)
    await world.live(tenant, refreshes)
    assert world.refreshes >= refreshes
    assert world.replays > refreshes / 200
    caught = await owner.fetchval("SELECT count(*) FROM audit WHERE action = 'oauth:refresh_replayed'")
    ended = await owner.fetchval("SELECT count(*) FROM credentials WHERE kind = 'oauth' AND revoked_at IS NOT NULL")
    assert (caught, ended) == (world.replays, world.replays), "nobody else was thrown out"


@pytest.mark.promise("IDN-11")
async def test_2000_refreshes_log_nobody_out_and_catch_every_late_replay(
    urls: DatabaseUrls, database: Database, owner: Owner, tenant: Tenant
) -> None:
    await simulate(urls, database, owner, tenant, 2_000, seed=6)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.promise("IDN-11")
async def test_100000_refreshes_log_nobody_out_and_catch_every_late_replay(
    urls: DatabaseUrls, database: Database, owner: Owner, tenant: Tenant
) -> None:
    await simulate(urls, database, owner, tenant, 100_000, seed=11)
