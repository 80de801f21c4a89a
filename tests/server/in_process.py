"""An ASGI client transport that puts a run's grant into the scope, as the engine's own does."""

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from db.principal import Principal
from server.http.front_door import GRANT_KEY


class GrantTransport(httpx2.ASGITransport):
    def __init__(self, app: ASGIApp, grant: Principal) -> None:
        async def with_grant(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, GRANT_KEY: grant}, receive, send)

        super().__init__(app=with_grant)
