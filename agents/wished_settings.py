"""What the client of a run wishes of its model (:mod:`agents.wishes`), for each request of it."""

from __future__ import annotations

from pydantic_ai import RunContext
from pydantic_ai.settings import ModelSettings

from agents.deps import RunDeps
from agents.wishes import NONE


def wished(context: RunContext[RunDeps]) -> ModelSettings:
    """Settings beside the model's own, which the context has."""
    asked = context.deps.wishes
    found = ModelSettings()
    if asked is NONE:
        return found
    kept = context.model_settings or {}
    if asked.max_tokens is not None:
        found["max_tokens"] = min(asked.max_tokens, kept.get("max_tokens") or asked.max_tokens)
    if asked.temperature is not None:
        found["temperature"] = asked.temperature
    if asked.tool_choice == "none":
        found["tool_choice"] = "none"
    elif context.run_step == 1 and asked.tool is not None:
        found["tool_choice"] = [asked.tool]
    elif context.run_step == 1 and asked.tool_choice == "required":
        found["tool_choice"] = "required"
    return found
