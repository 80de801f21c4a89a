"""Dynamic client registration (RFC 7591): for clients that nobody has told this server about.

What registers itself is a public or a confidential client like any other, shows people that nobody vouches for its
name, and is forgotten when nobody uses it.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db.database import Database
from db.errors import AppError
from db.oauth import clients
from server.limits.newcomers import REGISTRATIONS, Newcomers, address_of
from server.oauth import metadata
from server.oauth.answers import answer, body, route
from server.oauth.descriptions import described


def routes(database: Database, newcomers: Newcomers) -> list[BaseRoute]:
    async def register(request: Request) -> Response:
        client = described(_object(await body(request)), default_method="client_secret_basic")
        await newcomers.count("registration", address_of(request), REGISTRATIONS)
        client_id, secret, registered_at = await clients.register(database, client)
        told = {
            "client_id": client_id,
            "client_id_issued_at": int(registered_at.timestamp()),
            "client_name": client.name,
            "redirect_uris": list(client.redirect_uris),
            "grant_types": sorted(client.grant_types),
            "response_types": ["code"] if client.redirect_uris else [],
            "token_endpoint_auth_method": client.auth_method,
        }
        if client.uri is not None:
            told["client_uri"] = client.uri
        if secret is not None:
            told |= {"client_secret": secret, "client_secret_expires_at": 0}
        return answer(told, 201)

    return [route(metadata.REGISTER, register)]


def _object(text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AppError("invalid_client_metadata", 400, "The request must be a JSON object.", "See RFC 7591, 3.1.")
    return found
