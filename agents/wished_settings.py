"""What the client of a run wishes of its model (:mod:`agents.wishes`), for each request of it."""

from __future__ import annotations

from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.settings import ModelSettings

from agents.deps import RunDeps


class WishedSettings(AbstractCapability[RunDeps]):
    """Adds them to the settings of each request to a model."""

    def get_model_settings(self) -> Any:
        return _settings


def _settings(context: RunContext[RunDeps]) -> ModelSettings:
    wishes, kept = context.deps.wishes, context.model_settings or {}
    found = ModelSettings()
    if wishes.max_tokens is not None:
        found["max_tokens"] = min(wishes.max_tokens, kept.get("max_tokens") or wishes.max_tokens)
    if wishes.temperature is not None:
        found["temperature"] = wishes.temperature
    if wishes.tool_choice == "none":
        found["tool_choice"] = "none"
    elif context.run_step == 1 and wishes.tool is not None:
        found["tool_choice"] = [wishes.tool]
    elif context.run_step == 1 and wishes.tool_choice == "required":
        found["tool_choice"] = "required"
    return found
