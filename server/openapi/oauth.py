"""The authorization server and what this house says of itself (RFC 6749, 7009, 7591, 7662, 8414, 8628, 9728)."""

from __future__ import annotations

from typing import Any, Final

from server.mcp.resource import WELL_KNOWN as RESOURCE
from server.oauth import metadata
from server.openapi.operation import FORM, JSON, TEXT, Answer, Operation, Schema, listed, thing

TAG: Final = "oauth"
CLIENT: Final = ("client", "")
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ERROR: Final = thing({"error": TEXT, "error_description": TEXT})
ADDRESS: Final[Schema] = {"type": "string", "format": "uri"}
BY_FORM: Final = {"client_id": TEXT, "client_secret": TEXT}


def operations() -> list[Operation]:
    return [*_metadata(), *_endpoints()]


def _metadata() -> list[Operation]:
    server = thing({"issuer": ADDRESS, "authorization_endpoint": ADDRESS, "token_endpoint": ADDRESS})
    resource = thing({"resource": ADDRESS, "authorization_servers": listed(ADDRESS), "scopes_supported": listed(TEXT)})
    documents: list[tuple[str, str, Schema]] = [
        (metadata.WELL_KNOWN, "The authorization server (RFC 8414)", server),
        (metadata.OPENID, "The same, where clients of OpenID look", server),
        (metadata.KEYS, "Its keys: none, for it signs no ID tokens", thing({"keys": listed({"type": "object"})})),
        (RESOURCE, "The protected resource (RFC 9728)", resource),
        (f"{RESOURCE}/mcp", "The same, at the address of its path", resource),
    ]
    return [
        Operation("get", path, TAG, summary, {200: Answer("The document.", {JSON: schema})})
        for path, summary, schema in documents
    ]


def _endpoints() -> list[Operation]:
    return [
        _endpoint(
            metadata.TOKEN,
            "Get a token (RFC 6749); for an end user with a project's key (RFC 8693)",
            {"grant_type": TEXT},
            thing(
                {"access_token": TEXT, "token_type": TEXT, "expires_in": COUNT},
                refresh_token=TEXT,
                scope=TEXT,
                issued_token_type=TEXT,
            ),
            (*CLIENT, "bearer", "key"),
        ),
        _endpoint(metadata.REVOKE, "Give a token back (RFC 7009)", {"token": TEXT}, {"type": "object"}),
        _endpoint(
            metadata.INTROSPECT,
            "What a token is worth (RFC 7662), for clients of the operator",
            {"token": TEXT},
            thing({"active": {"type": "boolean"}}),
        ),
        _endpoint(
            metadata.DEVICE,
            "Begin to sign in on another device (RFC 8628)",
            {},
            thing({"device_code": TEXT, "user_code": TEXT, "verification_uri": ADDRESS, "expires_in": COUNT}),
        ),
        Operation(
            "post",
            metadata.REGISTER,
            TAG,
            "Register a client (RFC 7591)",
            {201: Answer("The client, with its secret if it has one.", {JSON: thing({"client_id": TEXT})})},
            (400, 413, 429),
            body={JSON: thing({"redirect_uris": listed(ADDRESS)}, client_name=TEXT, client_uri=ADDRESS)},
            refused_as="OAuthError",
        ),
    ]


def _endpoint(
    path: str, summary: str, needed: dict[str, Schema], answer: dict[str, Any], security: tuple[str, ...] = CLIENT
) -> Operation:
    return Operation(
        "post",
        path,
        TAG,
        summary,
        {200: Answer("As the RFC has it.", {JSON: answer})},
        (400, 401, 403, 413, 429, 502, 503),
        body={FORM: thing(needed, **BY_FORM)},
        security=security,
        refused_as="OAuthError",
    )


def schemas() -> dict[str, Any]:
    return {"OAuthError": ERROR}
