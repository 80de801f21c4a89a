"""A client of the whole product: calls tools over MCP, and sends and reads bytes with the tickets it is given."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import httpx2

Answer = dict[str, Any]


@dataclass
class Desk:
    """``url``: where the house is; ``token``: as whom; in ``project_id``."""

    client: httpx2.AsyncClient
    url: str
    token: str
    project_id: UUID

    async def call(self, tool: str, /, *, key: str | None = None, **arguments: Any) -> Answer:
        """The structured answer of a tool; fails for an error."""
        result = await self.result(tool, key=key, **arguments)
        assert not result.get("isError"), result
        return cast(Answer, result["structuredContent"])

    async def refused(self, tool: str, /, **arguments: Any) -> Answer:
        """What a tool says to programs when it refuses."""
        result = await self.result(tool, **arguments)
        assert result["isError"], result
        return cast(Answer, result["_meta"]["innkeeper/error"])

    async def result(self, tool: str, /, *, key: str | None = None, **arguments: Any) -> Answer:
        params: Answer = {"name": tool, "arguments": {"project_id": str(self.project_id), **arguments}}
        if key is not None:
            params["_meta"] = {"innkeeper/idempotency_key": key}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json"}
        answer = await self.client.post(f"{self.url}/mcp", json=message, headers=headers)
        return cast(Answer, answer.raise_for_status().json()["result"])

    async def use(self, ticket: Answer, data: bytes | None = None) -> httpx2.Response:
        return await self.client.request(
            ticket["method"], ticket["url"], content=data, headers=ticket["headers"] or None
        )

    async def sent(self, path: str, data: bytes, **arguments: Any) -> Answer:
        """A file that was announced and sent; the answer to its announcement."""
        sha256 = hashlib.sha256(data).hexdigest()
        made = await self.call("create_upload", path=path, size=len(data), **{"sha256": sha256, **arguments})
        answer = await self.use(made["ticket"], data)
        assert answer.is_success, answer.text
        return made

    async def file(self, path: str, data: bytes, **arguments: Any) -> str:
        """The id of a file that is ready."""
        made = await self.sent(path, data, **arguments)
        assert (await self.call("confirm_upload", file_id=made["id"]))["status"] == "ready"
        return cast(str, made["id"])
