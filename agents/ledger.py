"""Where the runs of this process are written down, for all processes. Importing it imports nothing of pydantic-ai."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from agents.patience import patiently
from db import spending
from db.agents import Limits
from db.database import Database
from db.spending import Used, Verdict


class Ledger:
    """Implements ``agents.meter.Ledger``. ``owner``: this process, as the leases of its runs name it."""

    def __init__(self, database: Database, owner: UUID) -> None:
        self._database = database
        self._owner = owner

    async def meter(
        self, project_id: UUID, run_id: UUID, epoch: int, limits: Limits, used: Used, estimate: Decimal | None
    ) -> Verdict:
        """As :func:`db.spending.meter`; a database that is away is waited for."""

        async def ask() -> Verdict:
            async with self._database.system() as connection:
                return await spending.meter(connection, self._owner, project_id, run_id, epoch, limits, used, estimate)

        return await patiently(ask)
