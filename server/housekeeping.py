"""What a serving process does beside serving: every few minutes it clears away what has had its time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from db.cleaning import clean_up
from db.database import Database
from db.errors import AppError

INTERVAL_SECONDS: Final = 600.0
_log = logging.getLogger("innkeeper.housekeeping")


@asynccontextmanager
async def housekeeping(database: Database, interval: float = INTERVAL_SECONDS) -> AsyncIterator[None]:
    """Clean up in the background, each ``interval`` seconds on average: processes do not all come at once."""
    keeping = asyncio.create_task(_keep(database, interval), name="innkeeper-housekeeping")
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _keep(database: Database, interval: float) -> None:
    while True:
        await asyncio.sleep(interval * random.uniform(0.5, 1.5))  # noqa: S311  only spreads the work
        try:
            removed = await clean_up(database)
            if removed:
                _log.info("removed %d rows that had their time", removed)
        except AppError as error:
            _log.warning("cleaning up has to wait: %s", error.message)
        except Exception:  # noqa: BLE001  whatever it was, the next time comes
            _log.exception("cleaning up failed")
