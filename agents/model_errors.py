"""What went wrong at a model, in our words, and what an answer cost.

A provider's own text never passes: it may hold keys, internal addresses or another tenant's prompt.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Final

from db.errors import AppError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse

UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError)
"""What reading an answer raises that is no text, no JSON, or not what it should be: the other side's fault, whoever
stumbled over it."""
LONGEST_WAIT = 3600  # seconds; a provider that asks for more is not worth waiting for


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


def bad_response() -> AppError:
    """What came is no answer of a model."""
    return _BAD_RESPONSE.error()


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
    if _says_context_overflow(error):
        return _CONTEXT_OVERFLOW.error()
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
_FILTERED = _Answer(
    "model_content_filtered",
    422,
    "The model refused, or its provider filtered the content.",
    "Say it another way, or use another model.",
)


@cache
def _answers() -> tuple[tuple[tuple[type[BaseException], ...], _Answer], ...]:
    """Classes of pydantic-ai's errors and what we say, the more special ones first."""
    from pydantic_ai import exceptions as x

    return (
        (
            (x.ModelAuthenticationError,),
            _Answer(
                "model_auth_failed",
                502,
                "The model's provider refused the API key, or the key may not use this model.",
                "Check the model's API key in the project or the settings.",
            ),
        ),
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
        (
            (x.ModelTimeoutError, x.ModelRequestTimeout),
            _Answer("model_timeout", 504, "The model did not answer in time.", "Try again, or use a faster model.", 5),
        ),
        (
            (x.ModelConnectionError, x.ModelUnavailableError, x.ModelServerError),
            _Answer(
                "model_unavailable",
                503,
                "The model's provider cannot be reached, or failed to answer.",
                "Try again shortly; if it stays, check the base URL and the provider's status.",
                5,
            ),
        ),
        (
            (x.ModelRequestRejectedError,),
            _Answer(
                "model_request_rejected",
                502,
                "The model's provider refused the request as it is.",
                "Check the model parameters, and that the model takes what was sent (tools, images, files).",
            ),
        ),
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


def _says_context_overflow(error: BaseException) -> bool:
    # llama.cpp's server has a type of its own, which pydantic-ai files under "rejected".
    return getattr(error, "provider_error_type", None) == "exceed_context_size_error"


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return min(math.ceil(value), LONGEST_WAIT)
    return None
