"""The one error that callers see, and the few shapes of it that every family needs.

``message`` says what was wrong, ``hint`` what to do next; both are safe to show to any caller and to a model.
Everything that is not an :class:`AppError` is a crash: it says nothing to the caller and everything to the log.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypedDict

CALLED_BY: Final = {"agent": "a name", "contact": "an address", "template": "a name"}
"""What callers call those of a kind by whose ids they never give."""


class Repair(TypedDict, total=False):
    """What to do to one argument of the call. ``at``: its name, with dots into objects; ``any_of``: several to choose
    from. ``schema``: what the value must be, as JSON Schema. ``without``: what must not be in it, parts of a text or
    elements of a list. ``to``: its right name.
    """

    do: Literal["give", "drop", "change", "rename"]
    at: str
    any_of: list[str]
    schema: dict[str, Any]
    without: list[str]
    to: str


class Details(TypedDict, total=False):
    """The hint for programs: what an agent can do without understanding the sentence. Kept small; most have none.

    ``next_tool``: call it first, its answer has what was missing. ``arguments``: how to change the call.
    ``did_you_mean``: the tool, prompt or family that was probably meant. ``idempotency_key``: "new" for a call that is
    a new one. ``max_bytes``: how long a request may be. ``ask``: what only a person can change, as what it must be:
    ``scope`` of the key, its ``project`` binding, ``read_only``, ``role`` in the project, ``tools`` of the connection,
    ``storage_bytes`` of the project. ``snapshot``: what there is in place of what was asked for.
    """

    next_tool: str
    arguments: list[Repair]
    did_you_mean: str
    idempotency_key: Literal["new"]
    max_bytes: int
    uri_templates: list[str]
    ask: dict[str, Any]
    snapshot: dict[str, Any]


class AppError(Exception):
    """An error with a meaning for the caller.

    ``code``: snake_case, stable, machine-readable. ``status``: the HTTP status an HTTP edge answers with.
    ``retryable``: whether the very same call may succeed later. ``retry_after``: seconds, for 429 and 503.
    ``details``: the hint again, for programs.
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        hint: str,
        retryable: bool = False,
        retry_after: int | None = None,
        details: Details | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.retry_after = retry_after
        self.details: Details = details or {}

    def __repr__(self) -> str:
        return f"AppError({self.code!r}, {self.status}, {self.message!r})"


def not_found(kind: str, hint: str | None = None, details: Details | None = None) -> AppError:
    """The same answer for "does not exist", "was deleted" and "is not yours": nobody can tell the three apart.

    Without a ``hint`` of its own it names the tool that lists the kind, which must exist then, and what its rows are
    called by.
    """
    if hint is None:
        details = {"next_tool": f"list_{kind}s", **(details or {})}
    return AppError(
        f"{kind}_not_found",
        404,
        f"There is no such {kind.replace('_', ' ')}, or this caller may not see it.",
        hint or f"List what this caller can see (list_{kind}s) and use {CALLED_BY.get(kind, 'an id')} from there.",
        details=details,
    )


def invalid(message: str, hint: str, code: str = "invalid_arguments", details: Details | None = None) -> AppError:
    return AppError(code, 400, message, hint, details=details)


def conflict(code: str, message: str, hint: str, details: Details | None = None) -> AppError:
    return AppError(code, 409, message, hint, details=details)


def unauthenticated(
    message: str = "This needs a valid access token.",
    hint: str = "Send 'Authorization: Bearer <key>' with a key that is neither revoked nor expired.",
) -> AppError:
    return AppError("unauthenticated", 401, message, hint)


def missing_scope(scope: str) -> AppError:
    return AppError(
        "insufficient_scope",
        403,
        f"This key does not have the scope '{scope}'.",
        f"Use a key that was created with '{scope}', or ask an administrator of the project for one.",
        details={"ask": {"scope": scope}},
    )


def needs_member() -> AppError:
    return AppError(
        "role_insufficient",
        403,
        "Your role in this project only reads.",
        "Ask an owner or admin of the project for the role member.",
        details={"ask": {"role": "member"}},
    )


def read_only(what: str) -> AppError:
    return AppError(
        "read_only",
        403,
        f"{what} changes data, and this connection is read-only.",
        "Connect without read_only=1, with a key that is not read-only, when the change is really wanted.",
        details={"ask": {"read_only": False}},
    )


def unavailable(message: str = "The database cannot be reached at the moment.", retry_after: int = 2) -> AppError:
    return AppError("unavailable", 503, message, "Try the same call again shortly.", True, retry_after)


def lease_lost() -> AppError:
    """For what a run's tools would have written: somebody else has the run now, or nobody any more."""
    return conflict(
        "run_lease_lost",
        "This run has ended, or another process goes on with it: nothing was changed.",
        "Read the run to see where it stands.",
    )
