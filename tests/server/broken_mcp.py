"""A small MCP server that is in order, with a knob for each thing that goes wrong with real ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

TOKEN = "tok-that-only-tests-have"
RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"


@dataclass
class Broken:
    """ASGI. ``None`` leaves a thing out; ``base`` stands for the server's own address in what it says."""

    path: str = "/mcp"
    locked: bool = True
    challenge: str | None = 'Bearer resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
    resource: dict[str, Any] | None = field(
        default_factory=lambda: {"resource": "{base}/mcp", "authorization_servers": ["{base}"]}
    )
    server: dict[str, Any] | None = field(
        default_factory=lambda: {
            "issuer": "{base}",
            "authorization_endpoint": "{base}/authorize",
            "token_endpoint": "{base}/token",
            "registration_endpoint": "{base}/register",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }
    )
    front: Response | None = None
    refusal: tuple[int, str, str] | None = None
    version: str = "2025-11-25"
    modern: bool = True
    legacy: bool = True
    tools: list[dict[str, Any]] = field(default_factory=lambda: [{"name": "echo", "inputSchema": {"type": "object"}}])
    streams: bool = False
    stream_headers: dict[str, str] = field(default_factory=dict)
    held: bool = False
    origins: bool = True
    late: bool = False
    heard: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        base = f"http://{request.headers['host']}"
        self.heard.append(f"{request.url} {request.headers.get('authorization', '')}")
        if request.url.path in (RESOURCE, f"{RESOURCE}/mcp") and self.resource is not None:
            return JSONResponse(_filled(self.resource, base))
        if request.url.path == SERVER and self.server is not None:
            return JSONResponse(_filled(self.server, base))
        if request.url.path != self.path:
            return Response(status_code=404)
        if self.front is not None:
            return self.front
        return await self._mcp(request, base)

    async def _mcp(self, request: Request, base: str) -> Response:
        sent = request.headers.get("authorization")
        if not self.origins and "origin" in request.headers:
            return Response("Invalid Origin header", 403)
        if self.locked and sent is None:
            headers = {} if self.challenge is None else {"www-authenticate": self.challenge.replace("{base}", base)}
            return Response(status_code=401, headers=headers)
        if self.locked and self.refusal is not None:
            status, challenge, said = self.refusal
            return JSONResponse({"detail": said}, status, headers={"www-authenticate": challenge})
        if request.method == "GET":
            if self.held:
                while (await request.receive())["type"] != "http.disconnect":
                    """Holds the stream back until its reader gives up."""
            return Response(status_code=405)
        if request.method != "POST":
            return Response(status_code=405)
        message = await request.json()
        if self.late and sent is None and message["method"] == "tools/list":
            return Response(status_code=401)
        if "id" not in message:
            return Response(status_code=202)
        return self._said({"jsonrpc": "2.0", "id": message["id"], **self._result(message)})

    def _result(self, message: dict[str, Any]) -> dict[str, Any]:
        is_modern = "_meta" in message["params"]
        if not (self.modern if is_modern else self.legacy):
            supported = ["2026-07-28"] * self.modern + ["2025-11-25"] * self.legacy or ["2031-01-01"]
            return {"error": {"code": -32022, "message": "Unsupported", "data": {"supported": supported}}}
        if message["method"] == "tools/list":
            return {"result": {"tools": self.tools}}
        info = {"name": "small", "version": "1"}
        if message["method"] == "server/discover":
            return {"result": {"supportedVersions": ["2026-07-28"], "serverInfo": info, "capabilities": {}}}
        return {"result": {"protocolVersion": self.version, "serverInfo": info, "capabilities": {"tools": {}}}}

    def _said(self, answer: dict[str, Any]) -> Response:
        if not self.streams:
            return JSONResponse(answer)
        body = f"event: message\ndata: {json.dumps(answer)}\n\n".encode()

        async def parts() -> Any:
            yield body

        kind = {"content-type": "text/event-stream"}
        if "content-length" in self.stream_headers:
            return Response(body, headers=kind)
        return StreamingResponse(parts(), headers={**kind, **self.stream_headers})


def redirect(to: str, status: int = 307) -> Response:
    return RedirectResponse(to, status)


def _filled(document: dict[str, Any], base: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document).replace("{base}", base))
    return found
