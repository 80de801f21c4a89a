"""Who a client is: one that registered, or one that describes itself at its client_id."""

from __future__ import annotations

from db.database import Database
from db.oauth import clients
from db.oauth.clients import Client


class KnownClients:
    """Finds clients by what they call themselves. ``documents``: whether documents are looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.documents = False

    async def find(self, client_id: str) -> Client | None:
        return await clients.find(self._database, client_id)
