"""From an ASGI scope to a principal: the run grant an in-process call carries, else the bearer token of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from starlette.types import Scope

from db.errors import AppError, unauthenticated
from db.principal import Principal
from db.tokens import fingerprint
from server.http.fields import fields_of
from server.http.front_door import GRANT_KEY

END_USER: Final = "end_user"
"""The kind of principals that call no tools but through their runs."""


class Authenticator(Protocol):
    def authenticate(self, token: str) -> Awaitable[Principal | None]: ...

    def recall(self, known_as: bytes) -> Principal | None: ...

    def still_valid(self, principal: Principal) -> Awaitable[bool]: ...

    def watching(self, principal: Principal, doubt: Callable[[bool], None]) -> AbstractContextManager[None]: ...


def recalled(scope: Scope, authenticator: Authenticator) -> Principal | None:
    """Who calls, if the process remembers it; ``None`` when :func:`principal_of` must be asked."""
    if GRANT_KEY in scope:
        return None
    known = fields_of(scope).known
    known_as = known.get(fingerprint)
    if known_as is None:
        token = bearer_token(scope)
        if token is None:
            return None
        known_as = known[fingerprint] = fingerprint(token)
    principal = authenticator.recall(known_as)
    return None if principal is not None and principal.kind == END_USER else principal


async def principal_of(scope: Scope, authenticator: Authenticator) -> Principal:
    """Who calls. Raises ``AppError`` 401 for a missing or dead token, 503 when the database cannot say.

    A grant in the scope counts as long as the credential behind it lives; it cannot come from a socket, because the
    front door takes it out of every scope a socket makes. An end user's own token is 403 here: of their runs the
    grants count.
    """
    grant = scope.get(GRANT_KEY)
    if isinstance(grant, Principal):
        if await authenticator.still_valid(grant):
            return grant
        raise unauthenticated("The key that this run was started with has been revoked or has expired.")
    token = bearer_token(scope)
    if token is None:
        raise unauthenticated()
    principal = await authenticator.authenticate(token)
    if principal is None:
        raise unauthenticated("This access token is unknown, revoked or expired.")
    if principal.kind == END_USER:
        raise AppError(
            "not_for_end_users",
            403,
            "An end user's token is for talking to agents and for their files, not for tools.",
            "Send it to /agui, /runs or /storage/presign; tools are called with a key or by an OAuth client.",
        )
    return principal


def bearer_token(scope: Scope) -> str | None:
    """The one bearer token of a request; ``None`` without an ``Authorization: Bearer`` header, or with several."""
    fields = fields_of(scope)
    sent = fields.get(b"authorization")
    if sent is None or b"authorization" in fields.repeated or sent[:7].lower() != b"bearer ":
        return None
    return sent[7:].strip(b" ").decode("latin-1") or None


def sent_credentials(scope: Scope) -> bool:
    """Whether the request tried to authenticate at all: decides how a 401 is worded (RFC 6750, 3.1)."""
    return b"authorization" in fields_of(scope)
