"""What this server says of itself as an authorization server (RFC 8414), also in the form of OpenID discovery.

It is no OpenID provider: it signs no ID tokens. Clients that only look at the OpenID address find the same document
there, with the three fields which that form must have; the key set is empty.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from db.oauth.clients import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, TOKEN_EXCHANGE
from db.scopes import ALL_SCOPES
from server.http.address import PublicAddress
from server.oauth.scopes import in_order

AUTHORIZE: Final = "/oauth/authorize"
TOKEN: Final = "/oauth/token"  # noqa: S105  a path
REGISTER: Final = "/oauth/register"
REVOKE: Final = "/oauth/revoke"
INTROSPECT: Final = "/oauth/introspect"
DEVICE: Final = "/oauth/device_authorization"
KEYS: Final = "/oauth/keys"
WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"
SECRETS: Final = ["client_secret_basic", "client_secret_post"]
HEADERS: Final = {"cache-control": "public, max-age=300"}


def routes(address: PublicAddress, *, documents: bool) -> list[BaseRoute]:
    """``documents``: whether clients may be known by the document at their client_id."""

    async def oauth(request: Request) -> Response:
        return JSONResponse(described(address, request, documents=documents), headers=HEADERS)

    async def openid(request: Request) -> Response:
        document = described(address, request, documents=documents) | {
            "jwks_uri": address.base(request.scope) + KEYS,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return JSONResponse(document, headers=HEADERS)

    async def keys(_request: Request) -> Response:
        return JSONResponse({"keys": []}, headers=HEADERS)

    return [Route(WELL_KNOWN, oauth), Route(OPENID, openid), Route(KEYS, keys)]


def described(address: PublicAddress, request: Request, *, documents: bool) -> dict[str, Any]:
    base = address.base(request.scope)
    return {
        "issuer": base,
        "authorization_endpoint": base + AUTHORIZE,
        "token_endpoint": base + TOKEN,
        "registration_endpoint": base + REGISTER,
        "revocation_endpoint": base + REVOKE,
        "introspection_endpoint": base + INTROSPECT,
        "device_authorization_endpoint": base + DEVICE,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE, CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", *SECRETS],
        "revocation_endpoint_auth_methods_supported": ["none", *SECRETS],
        "introspection_endpoint_auth_methods_supported": SECRETS,
        "scopes_supported": in_order(ALL_SCOPES),
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": documents,
        "prompt_values_supported": ["none", "consent"],
        "protected_resources": [address.resource(request.scope)],
    }
