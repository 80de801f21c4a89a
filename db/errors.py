"""The one error that callers see, and the few shapes of it that every family needs.

``message`` says what was wrong, ``hint`` what to do next; both are safe to show to any caller and to a model.
Everything that is not an :class:`AppError` is a crash: it says nothing to the caller and everything to the log.
"""

from __future__ import annotations


class AppError(Exception):
    """An error with a meaning for the caller.

    ``code``: snake_case, stable, machine-readable. ``status``: the HTTP status an HTTP edge answers with.
    ``retryable``: whether the very same call may succeed later. ``retry_after``: seconds, for 429 and 503.
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        hint: str | None = None,
        retryable: bool = False,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"AppError({self.code!r}, {self.status}, {self.message!r})"


def not_found(kind: str, hint: str | None = None) -> AppError:
    """The same answer for "does not exist", "was deleted" and "is not yours": nobody can tell the three apart."""
    return AppError(
        f"{kind}_not_found",
        404,
        f"There is no such {kind}, or this caller may not see it.",
        hint or f"List what this caller can see (list_{kind}s) and use an id from there.",
    )


def invalid(message: str, hint: str | None = None, code: str = "invalid_arguments") -> AppError:
    return AppError(code, 400, message, hint)


def conflict(code: str, message: str, hint: str | None = None) -> AppError:
    return AppError(code, 409, message, hint)


def unauthenticated(message: str = "This needs a valid access token.") -> AppError:
    return AppError(
        "unauthenticated",
        401,
        message,
        "Send 'Authorization: Bearer <key>' with a key that is neither revoked nor expired.",
    )


def missing_scope(scope: str) -> AppError:
    return AppError(
        "insufficient_scope",
        403,
        f"This key does not have the scope '{scope}'.",
        f"Use a key that was created with '{scope}', or ask an administrator of the project for one.",
    )


def read_only(what: str) -> AppError:
    return AppError(
        "read_only",
        403,
        f"{what} changes data, and this connection is read-only.",
        "Connect without read_only=1, with a key that is not read-only, when the change is really wanted.",
    )


def unavailable(message: str = "The database cannot be reached at the moment.", retry_after: int = 2) -> AppError:
    return AppError("unavailable", 503, message, "Try the same call again shortly.", True, retry_after)
