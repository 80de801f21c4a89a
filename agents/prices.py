"""What answers of models cost: by the project's own prices, else by the published ones of genai-prices.

A price that nobody knows is not zero: such an answer is counted, but not in money. So a budget in US$ does not hold for
a model at an endpoint of the project's own before the project says what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from agents.model_errors import cost_of
from agents.model_spec import ModelSpec
from db import model_ids

MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Prices:
    """``own``: by the id of a model as the project writes it, or its plain name, ``input`` and ``output``: US$ for a
    million tokens."""

    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, answer: ModelResponse, asked: str) -> Decimal | None:
        """US$ for an answer of the model with the id ``asked``; None when nobody knows."""
        price = self._own(asked)
        if price is None:
            return cost_of(answer)
        if answer.usage.unmeasured_requests:
            return None
        spent = Decimal(answer.usage.input_tokens) * Decimal(str(price["input"]))
        return (spent + Decimal(answer.usage.output_tokens) * Decimal(str(price["output"]))) / MILLION

    def estimate(self, spec: ModelSpec, input_tokens: int, output_tokens: int) -> Decimal:
        """What a request may cost; 0 when nobody knows."""
        usage = RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens)
        provider, name = model_ids.parse(spec.model, spec.base_url)
        # At a base URL there may be anything under any name.
        known = "openai" if provider.startswith("openai") and spec.base_url is None else None
        guess = ModelResponse(parts=[], usage=usage, model_name=name, provider_name=known or "unknown")
        return self.of(guess, spec.model) or Decimal(0)

    def _own(self, asked: str) -> Mapping[str, Any] | None:
        return self.own.get(asked) or self.own.get(asked.partition(":")[2])
