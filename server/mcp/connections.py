"""The SDK's view of a client that keeps no connection: made once for each kind of client, not once a request.

A ``Connection`` holds what the envelope of a request says of its client. The same client says the same each time, so
what was made of it is kept. Handlers must not put anything into ``state`` or ``exit_stack``: all requests of such
clients share them.
"""

from __future__ import annotations

from typing import Any

from mcp.server.connection import Connection
from pydantic_core import to_json

KEPT = 256
LONGEST_KEY = 1024


class Connections:
    """At most ``KEPT`` connections by version, client info and capabilities; the oldest goes first."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Connection] = {}

    def of(self, version: str, client_info: Any, client_capabilities: Any) -> Connection:
        """The connection of a client that describes itself like this."""
        key = to_json((version, client_info, client_capabilities))
        connection = self._kept.get(key)
        if connection is None:
            connection = Connection.from_envelope(version, client_info, client_capabilities)
            if len(key) <= LONGEST_KEY:
                if len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = connection
        return connection
