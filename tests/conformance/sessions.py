"""Sessions of the handshake era, for the four scenarios in which the server asks the client; production has none.

A lane that takes the place of production's: ``initialize`` opens a session, a tool call in it can put requests to the
client on its stream, and what the client posts back finds its way to the tool. All the rest is production's lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mcp.server.connection import Connection
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, ErrorData
from pydantic_core import from_json, to_json
from starlette.applications import Starlette

from db.ids import uuid7
from server.mcp.exchange import Exchange, failure, is_reply, refusal_of
from server.mcp.inbound import Answer, Inbound, LongAnswer
from server.mcp.streaming import EventStream, Say, Told

SESSION_HEADER = "mcp-session-id"


@dataclass
class Session:
    capabilities: Any
    client_info: Any
    asked: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)


class Asking(Told):
    """A request whose tool can ask the client."""

    can_send_request = True

    def __init__(self, inbound: Inbound, message: Mapping[str, Any], say: Say, session: Session) -> None:
        super().__init__(inbound, message, say)
        self._session = session
        self._put = say

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        request_id = str(uuid7())
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._session.asked[request_id] = reply
        await self._put(to_json({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}))
        async with asyncio.timeout(60):
            said = await reply
        if "error" in said:
            raise MCPError(said["error"]["code"], said["error"]["message"])
        result: dict[str, Any] = said["result"]
        return result


class SessionExchange(Exchange):
    """Production's lane with sessions for clients of the handshake era."""

    def __init__(self, exchange: Exchange, catalog: Any) -> None:
        super().__init__(exchange.server, catalog)
        self.sessions: dict[str, Session] = {}

    async def answer(self, inbound: Inbound) -> Answer | LongAnswer:
        message = from_json(inbound.body)
        if isinstance(message, dict) and message.get("method") == "initialize":
            answered = await super().answer(inbound)
            if not isinstance(answered, Answer) or "result" not in from_json(answered.body):
                return answered
            session_id = str(uuid7())
            self.sessions[session_id] = Session(message["params"]["capabilities"], message["params"]["clientInfo"])
            return Answer(answered.status, answered.body, ((SESSION_HEADER.encode(), session_id.encode()),))
        named = inbound.headers.get(SESSION_HEADER)
        if named is not None and named not in self.sessions:
            return failure(None, ErrorData(code=INVALID_REQUEST, message="There is no such session"), 404)
        if named is not None and is_reply(message):
            asked = self.sessions[named].asked.pop(message["id"], None)
            if asked is not None and not asked.done():
                asked.set_result(message)
            return Answer(202)
        return await super().answer(inbound)

    def _serve_long(
        self,
        inbound: Inbound,
        message: dict[str, Any],
        connection: Connection,
        encode: Callable[[dict[str, Any]], Answer],
        *,
        goes_on: bool,
    ) -> LongAnswer:
        session = self.sessions.get(inbound.headers.get(SESSION_HEADER, ""))
        if session is None:
            return super()._serve_long(inbound, message, connection, encode, goes_on=goes_on)
        known = Connection.from_envelope(connection.protocol_version, session.client_info, session.capabilities)

        async def work(say: Say) -> Answer:
            return encode(await self._serve(Asking(inbound, message, say, session), message, known))

        return EventStream(work, refuse=partial(refusal_of, message["id"]), goes_on=goes_on, notes=inbound.notes)


def with_sessions(app: Starlette, catalog: Any) -> None:
    """Turn sessions on in ``app``, on which the fixtures are mounted already."""
    endpoint = app.state.mcp_app
    endpoint.lanes = (*endpoint.lanes[:-1], SessionExchange(endpoint.lanes[-1], catalog))
