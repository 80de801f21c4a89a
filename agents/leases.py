"""Keeps this process's runs its own, and takes those that nobody holds: left by a process that died or ends, or next
in the queue of their thread.

A lease is renewed each ``RENEW_SECONDS`` and lasts ``LEASE``. Whose lease ran out has stopped writing: every write of
a run is fenced by the lease's epoch, which taking it over raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from agents.live_runs import LiveRuns
from db import run_leases
from db.database import Database
from db.errors import AppError
from db.run_leases import Claim

RENEW_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.5
LEASE: Final = timedelta(seconds=3.5)
AT_ONCE: Final = 50
_log = logging.getLogger("innkeeper.agents")


class Leases:
    """Of the runs in ``live``. ``take`` goes on with one that was just claimed. ``alone``: that of the event writer."""

    def __init__(
        self,
        database: Database,
        owner: UUID,
        live: LiveRuns,
        take: Callable[[Claim], None],
        alone: asyncio.Lock,
        lease: timedelta = LEASE,
    ) -> None:
        self.lease = lease
        self._alone = alone
        self._database = database
        self._owner = owner
        self._live = live
        self._take = take
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said = ""
        self._renew_at = 0.0
        self._claim_from = 0.0

    async def start(self) -> None:
        """Look once for what waits already, then keep house in the background."""
        await self._try()
        self._task = asyncio.create_task(self._keep(), name="innkeeper-leases")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look(self) -> None:
        """There is something to be claimed: do not wait for the next round."""
        self._look.set()

    async def hand_over(self) -> None:
        """Offer every run to other processes, and take none any more. Until somebody takes them they go on here."""
        await self.stop()
        try:
            async with self._database.ops() as connection:
                await run_leases.hand_over(connection, self._owner)
        except AppError as error:
            _log.warning("runs cannot be handed over, their leases will run out: %s", error.message)

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look.wait()
            self._look.clear()
            await self._try()

    async def _try(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            if clock() >= self._renew_at:
                self._renew_at = clock() + RENEW_SECONDS
                await self._renew()
            if clock() >= self._claim_from:
                await self._claim()
        except AppError as error:
            # When the database comes back, living processes must have the time to renew before anyone takes over.
            self._renew_at = 0.0
            self._claim_from = clock() + self.lease.total_seconds()
            if error.code != self._said:
                _log.warning("leases cannot be renewed: %s", error.message)
            self._said = error.code
        except Exception:  # noqa: BLE001  (whatever it was, leases must be kept)
            _log.exception("leases could not be renewed")
        else:
            self._said = ""

    async def _renew(self) -> None:
        held = self._live.held()
        if not held:
            return
        async with self._alone, self._database.ops_statements() as connection:
            leases = {
                lease.run_id: lease
                for lease in await run_leases.renew_leases(connection, self._owner, list(held), self.lease)
            }
        for run_id, epoch in held.items():
            lease = leases.get(run_id)
            if lease is None or lease.epoch != epoch:
                self._live.lost(run_id, epoch)
            elif lease.cancel:
                self._live.cancel(run_id)

    async def _claim(self) -> None:
        async with self._database.ops_statements() as connection:
            claims = await run_leases.claim(connection, self._owner, self.lease, AT_ONCE)
        for claim in claims:
            self._take(claim)
        if len(claims) >= AT_ONCE:
            self._look.set()
