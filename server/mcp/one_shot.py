"""The SDK's view of one request that gets exactly one answer and no back channel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import anyio
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import RequestId

from server.mcp.inbound import Inbound


class OneShot:
    """A ``DispatchContext`` (structurally) whose answer is one JSON body: requests to the client are refused,
    notifications and progress have no wire and are dropped. Handlers find the :class:`Inbound` as ``ctx.request``.
    """

    can_send_request = False

    def __init__(self, inbound: Inbound, request_id: RequestId) -> None:
        self.request_id: RequestId | None = request_id
        self.message_metadata: MessageMetadata = ServerMessageMetadata(request_context=inbound, can_send_request=False)
        self.transport = TransportContext(kind="streamable-http", can_send_request=False, headers=inbound.headers)

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        return None

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        return None
