"""Asks a model provider whether it takes a key, by the list of models that each has, and spends nothing.

The providers' own addresses are the house's to name; an OpenAI-compatible endpoint is a tenant's, so it is gone to by
the guarded client. What a provider says besides its status is not read: it may repeat the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import httpx2

from db.errors import AppError
from tools.outside import Outside

SECONDS: Final = 10.0


class Verdict(Enum):
    accepted = "accepted"
    refused = "refused"
    unclear = "unclear"
    """The provider could not be asked, or does not say."""


@dataclass(frozen=True, slots=True)
class Provider:
    """``url``: of its list of models. ``refusals``: the statuses that mean that it does not know the key."""

    title: str
    url: str
    headers: Callable[[str], Mapping[str, str]]
    refusals: frozenset[int] = frozenset({401})


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _anthropic(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def _google(key: str) -> dict[str, str]:
    return {"x-goog-api-key": key}


PROVIDERS: Final[Mapping[str, Provider]] = {
    "openai": Provider("OpenAI", "https://api.openai.com/v1/models", _bearer),
    "anthropic": Provider("Anthropic", "https://api.anthropic.com/v1/models", _anthropic),
    # A key it does not know is a wrong argument to Google (API_KEY_INVALID).
    "google": Provider(
        "Google", "https://generativelanguage.googleapis.com/v1beta/models", _google, frozenset({400, 401})
    ),
    "groq": Provider("Groq", "https://api.groq.com/openai/v1/models", _bearer),
    "mistral": Provider("Mistral", "https://api.mistral.ai/v1/models", _bearer),
}


class ProviderChecks:
    """``providers`` are for tests: where each is asked."""

    def __init__(self, outside: Outside, providers: Mapping[str, Provider] = PROVIDERS) -> None:
        self._outside = outside
        self._providers = providers

    async def check(self, provider: str, key: str, base_url: str | None) -> Verdict:
        """``base_url``: of a compatible endpoint. The key is one line of printable ASCII."""
        try:
            if base_url is not None:
                status, refusals = await self._ask_endpoint(base_url, key), frozenset({401, 403})
            else:
                known = self._providers[provider]
                status, refusals = await self._ask(known, key), known.refusals
        except (httpx2.HTTPError, AppError):
            return Verdict.unclear
        if 200 <= status < 300:
            return Verdict.accepted
        return Verdict.refused if status in refusals else Verdict.unclear

    async def _ask(self, provider: Provider, key: str) -> int:
        async with (
            httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False) as client,
            client.stream("GET", provider.url, headers=provider.headers(key)) as response,
        ):
            return response.status_code

    async def _ask_endpoint(self, base_url: str, key: str) -> int:
        answered = await self._outside.request(
            "GET", f"{base_url}/models", headers=_bearer(key), seconds=SECONDS, redirects=0
        )
        return answered.status
