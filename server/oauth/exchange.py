"""Tokens for the end users of a project's product: token exchange (RFC 8693), and sessions of visitors without a name.

The client is the project, which proves itself by one of its keys: as a bearer token, as ``x-api-key``, or as the
``client_secret`` of a client whose ``client_id`` is the project's id; a publishable key, being no secret, may also come
as ``client_id`` alone. What a page sends counts only from an origin that the key lists.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from db import end_users
from db.database import Database
from db.end_users import EndUserToken, Exchange
from db.errors import AppError
from db.oauth.clients import TOKEN_EXCHANGE
from db.scopes import HELD_BY_END_USERS
from db.tokens import PUBLISHABLE_KEY, SECRET_KEY, is_wellformed
from server.http.pages_of_keys import PagesOfKeys
from server.limits.newcomers import EXCHANGES, GUESSES, VISITORS, Newcomers, address_of
from server.oauth import scopes
from server.oauth.answers import answer, wrong
from server.oauth.client_auth import basic
from server.oauth.requests import Parameters, audience_of
from server.oauth.subject_tokens import SubjectTokens

ANONYMOUS: Final = "urn:innkeeper:params:oauth:grant-type:anonymous"
GRANTS: Final = (TOKEN_EXCHANGE, ANONYMOUS)
_TYPE: Final = "urn:ietf:params:oauth:token-type:"
ACCESS_TYPE: Final = f"{_TYPE}access_token"
SESSION_TYPE: Final = f"{_TYPE}refresh_token"
SUBJECT_TYPES: Final = frozenset({ACCESS_TYPE, f"{_TYPE}jwt", f"{_TYPE}id_token"})
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class EndUserGrants:
    """The two grants of ``POST /oauth/token`` whose client is a project."""

    def __init__(self, database: Database, subjects: SubjectTokens, pages: PagesOfKeys, newcomers: Newcomers) -> None:
        self._database = database
        self._subjects = subjects
        self._pages = pages
        self._newcomers = newcomers

    async def token(self, request: Request, parameters: Parameters, resource: str) -> Response:
        """``resource``: what tokens of this house are for. Raises ``AppError`` in the words of RFC 6749 and 8693."""
        audience_of(parameters.resources, resource)
        key = presented_key(request, parameters)
        exchange = await end_users.find_exchange(self._database, key, _project(parameters))
        if exchange is None:
            raise unknown_key()
        self._check_page(request, exchange)
        if parameters["grant_type"] == ANONYMOUS:
            issued = await self._visitor(request, key, exchange)
        else:
            issued = await self._exchanged(request, key, exchange, parameters)
        return answer(
            {
                "access_token": issued.token,
                "issued_token_type": ACCESS_TYPE,
                "token_type": "Bearer",
                "expires_in": issued.seconds,
                "scope": " ".join(scopes.in_order(issued.scopes)),
                **({} if issued.session is None else {"refresh_token": issued.session}),
            }
        )

    def _check_page(self, request: Request, exchange: Exchange) -> None:
        if not self._pages.may_use(request.scope, exchange.origins):
            raise AppError(
                "unauthorized_client",
                403,
                "Pages of this origin may not use this key.",
                "List the origin with a publishable key of the project; secret keys belong on servers.",
            )

    async def _visitor(self, request: Request, key: str, exchange: Exchange) -> EndUserToken:
        if exchange.origins is None or "origin" not in request.headers:
            raise AppError(
                "unauthorized_client",
                403,
                "Sessions without a name are for pages, with a publishable key that lists them.",
                "On a server send userKey with the secret key instead.",
            )
        _require_visitors(exchange)
        await self._newcomers.count("visitor", address_of(request), VISITORS)
        return await end_users.begin_session(self._database, key, exchange.project_id)

    async def _exchanged(self, request: Request, key: str, exchange: Exchange, parameters: Parameters) -> EndUserToken:
        token, kind = (_needed(parameters, name) for name in ("subject_token", "subject_token_type"))
        _check_asked(parameters)
        asked = scopes.parse(parameters.get("scope"))
        if asked is not None and not set(asked) <= HELD_BY_END_USERS:
            raise AppError(
                "invalid_scope",
                400,
                "End users hold none of these.",
                f"Scopes are {' '.join(sorted(HELD_BY_END_USERS))}.",
            )
        try:
            if kind == SESSION_TYPE:
                _require_visitors(exchange)
                await self._newcomers.count("visitor's exchange", token, EXCHANGES)
                return await end_users.resume_session(self._database, key, exchange.project_id, token)
            if kind not in SUBJECT_TYPES:
                raise wrong(f"subject_token_type must be one of {', '.join(sorted(SUBJECT_TYPES))}.")
            subject = await self._subjects.subject(exchange.project_id, exchange.sources, token)
        except AppError as error:
            if not error.retryable and error.code == "invalid_request":
                await self._newcomers.count("guess", address_of(request), GUESSES)
            raise
        whom = f"{exchange.project_id} {subject.issuer} {subject.name}"
        await self._newcomers.count("end user's exchange", whom, EXCHANGES)
        return await end_users.issue(
            self._database,
            key,
            exchange.project_id,
            issuer=subject.issuer,
            name=subject.name,
            until=subject.until,
            life=subject.life,
            scopes=asked,
        )


def presented_key(request: Request, parameters: Parameters) -> str:
    """The key of the request, wherever it is. Raises ``AppError`` ``invalid_client`` without one of a key's form."""
    client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
    found = [*request.headers.getlist("x-api-key"), *([] if secret is None else [secret])]
    for header in request.headers.getlist("authorization"):
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            found.append(value.strip())
        else:
            named, password = basic(header)
            found.append(password or named)
    if client_id is not None and is_wellformed(client_id, PUBLISHABLE_KEY):
        found.append(client_id)
    if len(set(found)) > 1:
        raise wrong("The request comes with more than one key.")
    if not found or not any(is_wellformed(found[0], prefix) for prefix in (SECRET_KEY, PUBLISHABLE_KEY)):
        raise unknown_key()
    return found[0]


def unknown_key() -> AppError:
    return AppError(
        "invalid_client",
        401,
        "This grant needs a secret or publishable key of the project, and this is none, or it was revoked.",
        "Send the key as a bearer token or as x-api-key.",
    )


def _project(parameters: Parameters) -> UUID | None:
    """The project that is named, as ``project_id`` or as the client; a key of one project needs to name none."""
    named = parameters.get("project_id") or parameters.get("client_id") or ""
    return UUID(named) if _UUID.fullmatch(named) else None


def _require_visitors(exchange: Exchange) -> None:
    if not exchange.anonymous_sessions:
        raise AppError(
            "unauthorized_client", 403, "This project takes no visitors without a name.", "Sign the user in first."
        )


def _check_asked(parameters: Parameters) -> None:
    """What RFC 8693 lets a client ask for and is not had here."""
    if "actor_token" in parameters or "actor_token_type" in parameters:
        raise wrong("There is no delegation here: leave actor_token out.")
    if parameters.get("requested_token_type", ACCESS_TYPE) != ACCESS_TYPE:
        raise wrong(f"requested_token_type must be {ACCESS_TYPE}.")


def _needed(parameters: Parameters, name: str) -> str:
    if name not in parameters:
        raise wrong(f"{name} is missing.")
    return parameters[name]
