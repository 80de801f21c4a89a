"""How to connect to the cluster of a data directory, as each of its roles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from db.embedded.roles import DATABASE
from db.embedded.state import APP, OPS, OWNER, SUPERUSER, State


@dataclass(frozen=True, slots=True)
class Addresses:
    """For asyncpg and libpq: ``postgresql://role:password@/innkeeper?host=/socket/folder``. There is no TCP port.

    ``superuser_url`` is for tests and repair only.
    """

    sockets: Path
    state: State

    def url(self, database: str, role: str) -> str:
        """The address of ``database`` for one of the four roles of the cluster, by its full name."""
        password = self.state.passwords[role]
        return f"postgresql://{role}:{quote(password)}@/{quote(database)}?host={quote(str(self.sockets), safe='')}"

    @property
    def owner_url(self) -> str:
        return self.url(DATABASE, OWNER)

    @property
    def app_url(self) -> str:
        return self.url(DATABASE, APP)

    @property
    def ops_url(self) -> str:
        return self.url(DATABASE, OPS)

    @property
    def superuser_url(self) -> str:
        return self.url(DATABASE, SUPERUSER)
