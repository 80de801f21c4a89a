"""Who calls the routes that a product's pages and servers use: ``/agui``, ``/runs``, ``/v1`` and ``/storage/presign``.

A caller is a bearer token (of a server, of an OAuth client, of an end user), or a key as ``x-api-key``, which may also
stand beside an end user's token, as the SDKs send it. A publishable key alone is nobody. A secret key may name the end
user it acts for (``userKey``, in the query, or in a body: at its top, in its ``forwardedProps`` or its ``thread``);
beside a publishable key such a name is anybody's word, which a project has to want.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, Protocol
from uuid import UUID

from starlette.requests import Request

from db import end_users, runs
from db.database import Database
from db.errors import AppError, invalid, unauthenticated
from db.principal import Principal
from db.scopes import HELD_BY_END_USERS
from db.tokens import PUBLISHABLE_KEY
from server.http.pages_of_keys import PagesOfKeys, not_listed
from server.mcp import bearer
from tools.narrowing import Narrowing

USER_KEY: Final = "userKey"
_MARK: Final = b'"userKey"'


class Authenticator(bearer.Authenticator, Protocol):
    async def publishable(self, key: str) -> Principal | None: ...


class Callers:
    """One a process."""

    def __init__(self, database: Database, authenticator: Authenticator, pages: PagesOfKeys) -> None:
        self._database = database
        self._authenticator = authenticator
        self._pages = pages

    async def of(self, request: Request, *, in_body: bool = False) -> Principal:
        """``in_body``: the user may be named there. Raises ``AppError`` 401 for who is nobody, 403 for a page that the
        key does not list, or a name that is not believed."""
        principal = await self._known(request)
        if not self._pages.may_use(request.scope, principal.origins):
            raise not_listed()
        user_key = request.query_params.get(USER_KEY)
        in_the_body = named_in(await request.body()) if in_body else None
        if user_key is not None and in_the_body not in (None, user_key):
            raise invalid("The query and the body name two users as userKey.", "Name one, in either.")
        if user_key is None:
            user_key = in_the_body
        if user_key is not None:
            return await self._for(principal, user_key, request)
        if principal.kind == "publishable":
            raise nobody()
        return principal

    async def _known(self, request: Request) -> Principal:
        """The token's principal, or the key's own where no token is beside it."""
        key, token = _only(request, "x-api-key"), bearer.bearer_token(request.scope)
        if token is None and "authorization" in request.headers:
            raise _unknown()
        if token is not None and token.startswith(PUBLISHABLE_KEY) and key in (None, token):
            key, token = token, None
        if token is None and key is None:
            raise _unknown()
        if token is None:
            return await self._by_key(key or "")
        principal = await self._authenticator.authenticate(token)
        if principal is None:
            raise _unknown("This access token is unknown, revoked or expired.")
        return principal if key in (None, token) else await self._beside(principal, key or "")

    async def _by_key(self, key: str) -> Principal:
        publishable = key.startswith(PUBLISHABLE_KEY)
        found = await (self._authenticator.publishable(key) if publishable else self._authenticator.authenticate(key))
        if found is None or found.kind == "end_user":
            raise _unknown("This key is unknown, revoked or expired.")
        return found

    async def _beside(self, principal: Principal, key: str) -> Principal:
        """An end user's token, sent with a key: they must be of one project, and the page one of the key's."""
        by_key = await self._by_key(key)
        bound = by_key.project_id is not None
        together = by_key.project_id == principal.project_id if bound else by_key.user_id == principal.user_id
        if principal.kind != "end_user" or not together:
            raise unauthenticated(
                "The token and the key of this request do not belong together.",
                "Send a key of the same project as x-api-key, or the token alone.",
            )
        return replace(principal, origins=by_key.origins if principal.origins is None else principal.origins)

    async def _for(self, principal: Principal, user_key: str, request: Request) -> Principal:
        """The caller, acting for the end user whom it names."""
        if principal.end_user_id is not None:
            raise invalid(
                "A token of an end user says who they are, and comes with a userKey.",
                "Leave userKey out.",
                "user_key_extra",
            )
        narrowing = Narrowing.parse(request.query_params)
        project_id = principal.project_id or narrowing.project_id or await self._first(principal)
        end_user_id = await end_users.named(self._database, principal, project_id, user_key)
        held = principal.scopes & HELD_BY_END_USERS if principal.kind != "publishable" else HELD_BY_END_USERS
        return replace(principal, project_id=project_id, project_ids=frozenset(), end_user_id=end_user_id, scopes=held)

    async def _first(self, principal: Principal) -> UUID:
        """Where a key of many projects works that names none."""
        async with self._database.transaction(principal) as connection:
            project_id = await runs.enter_first_project(connection)
        if project_id is None:
            raise invalid("This key reaches no project.", "Create one first, or use another key.", "project_required")
        return project_id


def named_in(body: bytes) -> str | None:
    """The ``userKey`` of a body: at its top, among an AG-UI input's ``forwardedProps``, or of the ``thread`` that a run
    is to begin. Raises AppError for one that is no text: it must not be passed over."""
    if _MARK not in body:
        return None
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    inner = [found.get(name) for name in ("forwardedProps", "thread")] if isinstance(found, dict) else []
    for place in (found, *inner):
        named = place.get(USER_KEY) if isinstance(place, dict) else None
        if isinstance(named, str):
            return named
        if named is not None:
            raise invalid("userKey is not a text.", "Send your own name for this user, e.g. their id, as a string.")
    return None


def _unknown(message: str = "This needs a valid access token or key.") -> AppError:
    return unauthenticated(
        message,
        "Send a key or token that is neither revoked nor expired, once: 'Authorization: Bearer <key or token>', or "
        "'x-api-key: <key>'.",
    )


def nobody() -> AppError:
    return AppError(
        "end_user_required",
        401,
        "A publishable key acts only for an end user, and this request is of none.",
        "Exchange the user's token, or begin a session without a name, at /oauth/token; then send the access token.",
    )


def _only(request: Request, name: str) -> str | None:
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise _unknown()
    return found[0] if found else None
