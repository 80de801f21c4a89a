"""Which client is talking (RFC 6749 2.3): by name alone if it is public, else by secret, in one of two places."""

from __future__ import annotations

from base64 import b64decode
from urllib.parse import unquote_plus

from starlette.requests import Request

from db.database import Database
from db.errors import AppError
from db.oauth import clients
from db.oauth.clients import Client
from server.oauth.answers import wrong
from server.oauth.requests import Parameters


async def client_of(request: Request, parameters: Parameters, database: Database) -> Client:
    """Raises ``AppError`` ``invalid_client`` unless the client is known and proves it where it can."""
    client_id, secret = _presented(request, parameters)
    client = await clients.find(database, client_id)
    if client is None:
        raise refused("This client is unknown; it may have expired.")
    if client.auth_method == "none":
        if secret is not None:
            raise refused("This client has no secret.")
        return client
    if secret is None or not clients.knows_secret(client, secret):
        raise refused("The client's secret is missing or wrong.")
    return client


def _presented(request: Request, parameters: Parameters) -> tuple[str, str | None]:
    """The id and the secret, from the Authorization header or from the form, never from both."""
    in_form = parameters.get("client_id"), parameters.get("client_secret")
    headers = request.headers.getlist("authorization")
    if not headers:
        if in_form[0] is None:
            raise refused("The request names no client.")
        return in_form[0], in_form[1]
    if len(headers) > 1 or in_form[1] is not None:
        raise wrong("A client authenticates in one way at a time.")
    client_id, secret = basic(headers[0])
    if in_form[0] not in (None, client_id):
        raise wrong("The request names two clients.")
    return client_id, secret


def basic(header: str) -> tuple[str, str]:
    """Name and secret of Basic authentication as RFC 6749 2.3.1 has it. Raises ``AppError`` for what is none."""
    scheme, _, encoded = header.partition(" ")
    try:
        decoded = b64decode(encoded.strip(), validate=True).decode()
    except ValueError:  # of base64, of UTF-8, or of a header that is no ASCII
        decoded = ""
    name, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise refused("The Authorization header is not Basic authentication.")
    return unquote_plus(name), unquote_plus(secret)


def refused(message: str) -> AppError:
    return AppError("invalid_client", 401, message, "Register again, or check the credentials of the client.")
