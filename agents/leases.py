"""Keeps this process's runs its own, and ends those of processes that died.

A lease is renewed each ``RENEW_SECONDS`` and lasts ``LEASE``. Whose lease ran out has stopped writing: every write of
a run is fenced by the lease's epoch, which ending it raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from agents import agui
from agents.live_run import INTERRUPTED, LiveRun, error_event
from db import runs
from db.database import Database
from db.errors import AppError

RENEW_SECONDS: Final = 1.0
LEASE: Final = timedelta(seconds=4)
_log = logging.getLogger("innkeeper.agents")


class Leases:
    """``live`` gives the runs this process holds, by id."""

    def __init__(self, database: Database, owner: UUID, live: Callable[[], Mapping[UUID, LiveRun]]) -> None:
        self._database = database
        self._owner = owner
        self._live = live
        self._task: asyncio.Task[None] | None = None
        self._said = ""
        self._sweep_from = 0.0

    async def start(self) -> None:
        """Sweep once for what earlier processes left behind, then keep house in the background."""
        await self._try()
        self._task = asyncio.create_task(self._keep(), name="innkeeper-leases")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._try()

    async def _try(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await self._renew()
            if clock() >= self._sweep_from:
                await self._sweep()
        except AppError as error:
            # When the database comes back, living processes must have the time to renew before anyone is ended.
            self._sweep_from = clock() + LEASE.total_seconds()
            if error.code != self._said:
                _log.warning("leases cannot be renewed: %s", error.message)
            self._said = error.code
        except Exception:  # noqa: BLE001  (whatever it was, leases must be kept)
            _log.exception("leases could not be renewed")
        else:
            self._said = ""

    async def _renew(self) -> None:
        held = dict(self._live())
        if not held:
            return
        async with self._database.ops() as connection:
            leases = {
                lease.run_id: lease for lease in await runs.renew_leases(connection, self._owner, list(held), LEASE)
            }
        for run_id, run in held.items():
            lease = leases.get(run_id)
            if lease is None or lease.epoch != run.log.epoch:
                if not run.log.closing:
                    run.log.lose()
                    run.stop("lost")
            elif lease.cancel:
                run.stop("asked")

    async def _sweep(self) -> None:
        async with self._database.ops() as connection:
            ended = await runs.end_expired(connection, agui.encode(error_event(INTERRUPTED)), INTERRUPTED.code)
        if ended:
            _log.warning("ended %d runs whose process is gone", len(ended))
