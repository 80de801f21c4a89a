"""What clients call themselves: token (RFC 6749), revocation (RFC 7009), introspection (RFC 7662) and device
authorization (RFC 8628)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db.database import Database
from db.errors import AppError
from db.oauth import devices, grants
from db.oauth.clients import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, Client
from db.oauth.tokens import Issued
from db.scopes import ALL_SCOPES
from server.http.address import PublicAddress
from server.http.pages_of_keys import FOREIGN
from server.limits.newcomers import GUESSES, Newcomers, address_of
from server.oauth import exchange, metadata, scopes
from server.oauth.answers import answer, form, route, wrong
from server.oauth.client_auth import client_of, refused
from server.oauth.exchange import EndUserGrants
from server.oauth.requests import Parameters, audience_of

_VERIFIER: Final = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 4.1
DEVICE_PAGE: Final = "/device"
GUESSED: Final = frozenset({"invalid_client", "invalid_grant"})

Grant = Callable[[Client, Parameters, str], Awaitable[Issued]]


def routes(
    database: Database, address: PublicAddress, newcomers: Newcomers, end_users: EndUserGrants
) -> list[BaseRoute]:
    """``end_users``: what grants whose client is a project are answered by."""
    endpoints = _Endpoints(database, address, newcomers, end_users)
    return [
        route(metadata.TOKEN, endpoints.token),
        route(metadata.REVOKE, endpoints.revoke),
        route(metadata.INTROSPECT, endpoints.introspect),
        route(metadata.DEVICE, endpoints.device),
    ]


class _Endpoints:
    def __init__(
        self, database: Database, address: PublicAddress, newcomers: Newcomers, end_users: EndUserGrants
    ) -> None:
        self._database = database
        self._end_users = end_users
        self._newcomers = newcomers
        self._address = address
        self._grants: dict[str, Grant] = {
            AUTHORIZATION_CODE: self._code,
            REFRESH_TOKEN: self._refresh,
            DEVICE_CODE: self._device_code,
            CLIENT_CREDENTIALS: self._client_credentials,
        }

    async def token(self, request: Request) -> Response:
        """What is right is always answered; of what is wrong an address has only so many."""
        try:
            return await self._token(request)
        except AppError as error:
            if error.code in GUESSED:
                await self._newcomers.count("guess", address_of(request), GUESSES)
            raise

    async def _token(self, request: Request) -> Response:
        parameters = await form(request)
        kind = parameters.get("grant_type")
        if kind is None:
            raise wrong("grant_type is missing.")
        if kind in exchange.GRANTS:
            return await self._end_users.token(request, parameters, self._address.resource(request.scope))
        if FOREIGN in request.scope:
            raise AppError(
                "unauthorized_client", 403, "Pages of this origin may only exchange tokens.", "See the documentation."
            )
        grant = self._grants.get(kind)
        if grant is None:
            raise AppError("unsupported_grant_type", 400, "There is no such grant_type.", "See the metadata.")
        client = await client_of(request, parameters, self._database)
        if kind not in client.grant_types:
            raise AppError(
                "unauthorized_client", 400, "This client may not use this grant.", "Register it for the grant."
            )
        issued = await grant(client, parameters, self._address.resource(request.scope))
        return answer(
            {
                "access_token": issued.access_token,
                "token_type": "Bearer",
                "expires_in": issued.seconds,
                **({} if issued.refresh_token is None else {"refresh_token": issued.refresh_token}),
                "scope": " ".join(issued.scopes),
            }
        )

    async def _code(self, client: Client, parameters: Parameters, resource: str) -> Issued:
        verifier = parameters.get("code_verifier", "")
        if not _VERIFIER.fullmatch(verifier):
            raise wrong("code_verifier must be 43 to 128 unreserved characters.")
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        return await grants.redeem(
            self._database,
            client,
            _needed(parameters, "code"),
            parameters.get("redirect_uri"),
            challenge,
            audience_of(parameters.resources, resource),
        )

    async def _refresh(self, client: Client, parameters: Parameters, resource: str) -> Issued:
        return await grants.refresh(
            self._database,
            client,
            _needed(parameters, "refresh_token"),
            scopes.parse(parameters.get("scope")),
            audience_of(parameters.resources, resource),
        )

    async def _device_code(self, client: Client, parameters: Parameters, resource: str) -> Issued:
        audience_of(parameters.resources, resource)
        return await devices.poll(self._database, client, _needed(parameters, "device_code"))

    async def _client_credentials(self, client: Client, parameters: Parameters, resource: str) -> Issued:
        if client.auth_method == "none":
            raise refused("A service account proves itself with its secret.")
        asked = scopes.parse(parameters.get("scope"))
        return await grants.serve(
            self._database, client, asked, audience_of(parameters.resources, resource) or resource
        )

    async def revoke(self, request: Request) -> Response:
        """RFC 7009 2.2: what is no token of the client is revoked already."""
        parameters = await form(request)
        client = await client_of(request, parameters, self._database)
        await grants.revoke(self._database, client, _needed(parameters, "token"))
        return answer({})

    async def introspect(self, request: Request) -> Response:
        parameters = await form(request)
        client = await client_of(request, parameters, self._database)
        if not client.may_introspect:
            raise AppError(
                "unauthorized_client", 403, "This client may not ask about tokens.", "Make one with --introspect."
            )
        found = await grants.introspect(self._database, _needed(parameters, "token"))
        if found is None:
            return answer({"active": False})
        return answer(
            {
                "active": True,
                "client_id": found["client_id"],
                "sub": str(found["user_id"]),
                "aud": found["audience"],
                "iss": self._address.base(request.scope),
                "iat": int(found["created_at"].timestamp()),
                "exp": int(found["expires_at"].timestamp()),
                "token_type": "Bearer" if found["kind"] == "access" else "refresh_token",
                **({} if found["scopes"] is None else {"scope": " ".join(found["scopes"])}),
                "read_only": found["read_only"],
            }
        )

    async def device(self, request: Request) -> Response:
        parameters = await form(request)
        client = await client_of(request, parameters, self._database)
        if DEVICE_CODE not in client.grant_types:
            raise AppError(
                "unauthorized_client", 400, "This client may not use this flow.", "Register it for the flow."
            )
        resource = self._address.resource(request.scope)
        asked = scopes.parse(parameters.get("scope")) or scopes.in_order(ALL_SCOPES)
        audience = audience_of(parameters.resources, resource) or resource
        code, shown = await devices.start(self._database, client, asked, audience)
        page = self._address.base(request.scope) + DEVICE_PAGE
        return answer(
            {
                "device_code": code,
                "user_code": shown,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={shown}",
                "expires_in": int(devices.LIFE.total_seconds()),
                "interval": devices.INTERVAL,
            }
        )


def _needed(parameters: Parameters, name: str) -> str:
    if name not in parameters:
        raise wrong(f"{name} is missing.")
    return parameters[name]
