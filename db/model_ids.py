"""Model ids, as projects and agents keep them and as the settings name the default: what they may look like.

====================  ==================================================================================
``openai:NAME``       OpenAI's Responses API, or a transparent proxy of it at ``base_url``
``openai-chat:NAME``  chat completions: OpenAI itself, or any compatible endpoint at ``base_url``
``NAME``              the same as ``openai-chat:NAME``; needs a ``base_url``
``ollama:NAME``       an Ollama found on this machine (or at ``base_url``)
``lmstudio:NAME``     an LM Studio found on this machine (or at ``base_url``)
``local``             the small local model: text only, calls no tools
====================  ==================================================================================
"""

from __future__ import annotations

from typing import Final

from db.errors import AppError

PROVIDERS: Final = ("openai", "openai-chat", "ollama", "lmstudio", "local")
SUPPORTED: Final = "openai:NAME, openai-chat:NAME, ollama:NAME, lmstudio:NAME, local, or a plain NAME with a base URL"


def parse(model: str, base_url: str | None = None) -> tuple[str, str]:
    """Split a model id into (provider, name); AppError ``model_not_supported`` for any other provider."""
    model = model.strip()
    if model == "local":
        return "local", "local"
    provider, colon, name = model.partition(":")
    if colon and provider in PROVIDERS:
        if not name.strip():
            raise _not_supported(f"The model id '{model}' names no model after the colon.")
        return provider, name.strip()
    if base_url and model:
        return "openai-chat", model  # names such as "llama3.2:3b" hold a colon of their own
    if colon:
        raise _not_supported(f"The model provider '{provider}' is not supported.")
    raise _not_supported(f"The model id '{model}' names no provider.")


def _not_supported(message: str) -> AppError:
    return AppError("model_not_supported", 400, message, f"Supported now: {SUPPORTED}.")
