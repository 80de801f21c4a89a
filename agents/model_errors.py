"""What went wrong at a model, in our words, and what an answer cost.

A provider's own text never passes: it may hold keys, internal addresses or another tenant's prompt.
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Final

from agents.provider_words import reason
from db.errors import AppError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse

UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What reading an answer raises that is no text, no JSON, nested without end, or not what it should be: the other
side's fault, whoever stumbled over it."""
BUSY: Final = frozenset({408, 409, 425})
"""Refusals that say nothing against the request: it came at the wrong moment."""
LONGEST_WAIT = 3600  # seconds; a provider that asks for more is not worth waiting for
_log = logging.getLogger("innkeeper.agents")


def map_model_error(error: BaseException) -> AppError:
    """The error a run ends with. An AppError passes unchanged; what is no model's fault is ``internal_error``."""
    if isinstance(error, AppError):
        return error
    # Without pydantic-ai imported, no model was asked and none can have failed.
    mapped = _map(error) if "pydantic_ai" in sys.modules else None
    if mapped is not None:
        return mapped
    cause = error.__cause__
    if isinstance(cause, AppError):
        return cause
    return AppError("internal_error", 500, "The run failed inside Innkeeper.", "Try again; see the log.", True)


def of_an_answer(error: Exception) -> Exception:
    """What reading a model's answer raised, in terms of models: what cannot be read, and what the guarded client of
    tenants' endpoints (:mod:`server.integrations.guarded_answer`) does not let through."""
    if isinstance(error, UNREADABLE):
        # It may as well be a fault of ours, which only this tells apart.
        _log.warning("an answer of a model cannot be read", exc_info=error)
        return bad_response()
    guarded = _GUARDED.get(error.code) if isinstance(error, AppError) else None
    return guarded.error() if guarded is not None else error


def bad_response() -> AppError:
    """What came is no answer of a model."""
    return _BAD_RESPONSE.error()


def too_much() -> AppError:
    """What came is no answer of a model, and would be as long the next time."""
    return replace(_BAD_RESPONSE, wait=None).error()


def content_filtered() -> AppError:
    """The provider, or the model itself, refused to say it."""
    return _FILTERED.error()


def cost_of(response: ModelResponse) -> Decimal | None:
    """US dollars for one answer of a model; None when the price is unknown, which is not the same as free."""
    if response.usage.cost is not None:
        return response.usage.cost
    if not response.model_name:
        return None
    try:
        return response.cost().total_price
    except (LookupError, ValueError):
        return None


def _map(error: BaseException) -> AppError | None:
    if isinstance(error, BaseExceptionGroup):
        # All models of an agent failed: what the last of them said, for it was the last hope.
        return map_model_error(error.exceptions[-1])
    refused = _refused(error)
    if refused is not None:
        return refused.error(_seconds(getattr(error, "retry_after", None)))
    for classes, answer in _answers():
        if isinstance(error, classes):
            return answer.error(_seconds(getattr(error, "retry_after", None)))
    return None


@dataclass(frozen=True)
class _Answer:
    code: str
    status: int
    message: str
    hint: str
    wait: int | None = None  # seconds to wait when the provider names none; None: sending it again will not help

    def error(self, asked: int | None = None) -> AppError:
        again = self.wait is not None
        return AppError(self.code, self.status, self.message, self.hint, again, (asked or self.wait) if again else None)


_CONTEXT_OVERFLOW = _Answer(
    "model_context_overflow",
    400,
    "The conversation is longer than the model's context window.",
    "Start a new thread, send less, or use a model with a larger window.",
)
_BAD_RESPONSE = _Answer(
    "model_bad_response",
    502,
    "The model's provider sent an answer that cannot be understood.",
    "Try again; if it stays, check that the base URL is an OpenAI-compatible endpoint.",
    1,
)
_AUTH_FAILED = _Answer(
    "model_auth_failed",
    502,
    "The model's provider refused the API key, or the key may not use this model.",
    "Check the model's API key in the project or the settings.",
)
_REJECTED = _Answer(
    "model_request_rejected",
    502,
    "The model's provider refused the request as it is.",
    "Check the model parameters, and that the model takes what was sent (tools, images, files).",
)
_TIMEOUT = _Answer("model_timeout", 504, "The model did not answer in time.", "Try again, or use a faster model.", 5)
_UNAVAILABLE = _Answer(
    "model_unavailable",
    503,
    "The model's provider cannot be reached, or failed to answer.",
    "Try again shortly; if it stays, check the base URL and the provider's status.",
    5,
)
_FILTERED = _Answer(
    "model_content_filtered",
    422,
    "The model refused, or its provider filtered the content.",
    "Say it another way, or use another model.",
)


_GUARDED: Final = {
    "remote_bad_answer": _BAD_RESPONSE,
    "remote_wrong_type": _BAD_RESPONSE,
    "remote_timeout": _TIMEOUT,
    "remote_unreachable": _UNAVAILABLE,
}


@cache
def _answers() -> tuple[tuple[tuple[type[BaseException], ...], _Answer], ...]:
    """Classes of pydantic-ai's errors and what we say, the more special ones first."""
    import httpx2
    from pydantic_ai import exceptions as x

    return (
        ((x.ModelAuthenticationError,), _AUTH_FAILED),
        (
            (x.ModelRateLimitError,),
            _Answer(
                "model_rate_limited",
                429,
                "The model's provider limits the rate of requests.",
                "Wait, then send the run again; or use another model.",
                5,
            ),
        ),
        (
            (x.ModelQuotaExceededError,),
            _Answer(
                "model_quota_exceeded",
                402,
                "The account at the model's provider has no quota or credit left.",
                "Top up the account at the provider, or use another model or key.",
            ),
        ),
        ((x.ModelContextWindowExceededError,), _CONTEXT_OVERFLOW),
        (
            (x.ModelNotFoundError,),
            _Answer(
                "model_not_found",
                502,
                "The model's provider does not know this model, or its base URL is wrong.",
                "Check the model's name and base URL in the project.",
            ),
        ),
        # Those of httpx2: the SDK lets them pass where it reads what a refusal says.
        ((x.ModelTimeoutError, x.ModelRequestTimeout, httpx2.TimeoutException), _TIMEOUT),
        ((x.ModelConnectionError, x.ModelUnavailableError, x.ModelServerError, httpx2.TransportError), _UNAVAILABLE),
        ((x.ModelRequestRejectedError,), _REJECTED),
        ((x.ContentFilterError,), _FILTERED),
        (
            (x.OutputTokenLimitExceeded,),
            _Answer(
                "model_output_too_long",
                422,
                "The model's answer was cut off at its token limit.",
                "Raise max_tokens in the model parameters, or ask for a shorter answer.",
            ),
        ),
        ((x.UnexpectedModelBehavior, x.ModelAPIError), _BAD_RESPONSE),
    )


def _refused(error: BaseException) -> _Answer | None:
    """What the status or the words of a refusal say that pydantic-ai does not see in them."""
    from pydantic_ai import exceptions as x

    if not isinstance(error, x.ModelHTTPError) or isinstance(
        error, x.ModelQuotaExceededError | x.ModelRateLimitError | x.ModelAuthenticationError | x.ModelNotFoundError
    ):
        return None
    match reason(error.body):
        case "overflow":
            return _CONTEXT_OVERFLOW
        case "filtered":
            return _FILTERED
        case "key":
            return _AUTH_FAILED
    if error.status_code == 413:
        return _CONTEXT_OVERFLOW
    if error.status_code in BUSY:
        return _UNAVAILABLE
    return _REJECTED if 400 <= error.status_code < 500 else None


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return min(math.ceil(value), LONGEST_WAIT)
    return None
