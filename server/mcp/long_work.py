"""Which requests may take long, and are answered as a stream to clients that take one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mcp.server.lowlevel import Server

from server.mcp.inbound import Inbound
from tools.catalog import Catalog

LISTEN = "subscriptions/listen"


class LongWork:
    """Calls of tools that say they take long (``ToolSpec.takes_long``), and a subscription where one is served."""

    def __init__(self, server: Server[Any], catalog: Catalog) -> None:
        self._server = server
        self._catalog = catalog

    def of(self, inbound: Inbound, message: dict[str, Any]) -> bool | None:
        """``None`` for a request that gets one JSON body; else whether the work goes on when its client leaves: a
        write does, because nobody could say how far it came; a read is only there for who waits for it.
        """
        method = message["method"]
        if method == "tools/call":
            name = (message.get("params") or {}).get("name")
            spec = self._catalog.tool(name) if isinstance(name, str) else None
            if spec is None or not spec.takes_long or not inbound.principal.may(spec.scope):
                return None  # what is refused for its scope has a status of its own, which no stream can have
            if takes_stream(inbound.headers.get("accept", "")):
                return not spec.hints.read_only
        elif method == LISTEN and self._server.get_request_handler(LISTEN) is not None:
            return False
        return None


@lru_cache(maxsize=256)
def takes_stream(accept: str) -> bool:
    """Whether an Accept header takes an event stream. Streamable HTTP makes clients say so; one that does not waits
    for a JSON body."""
    ranges = {part.split(";", 1)[0].strip().lower() for part in accept.split(",")}
    return not ranges.isdisjoint(("text/event-stream", "text/*", "*/*"))
