"""The OpenAI family of models. Importing this imports pydantic-ai and the OpenAI SDK: seconds, so off the event loop.

Only :class:`agents.models.ModelFactory` imports it, in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx2
from openai import AsyncOpenAI, Omit, omit
from openai.resources.chat.completions import AsyncCompletions
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from agents.bounded_answers import bound
from agents.model_settings import checked_parameters
from agents.tool_schemas import KnowsTools

SILENCE = 120.0
"""Seconds that a model may say nothing, unless the parameter ``timeout`` says otherwise."""
WHOLE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
"""A stream that just ends has been cut off: whatever speaks this interface says why it ends."""
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Endpoint:
    """Where requests go and with what. ``base_url`` of None is OpenAI itself; ``api_key`` is never empty."""

    provider: str
    base_url: str | None
    api_key: str = field(repr=False)
    client: httpx2.AsyncClient


class ExplicitOpenAI(AsyncOpenAI):
    """The SDK's client without what it reads from the process environment.

    Organisation, project, admin key and extra headers of whoever runs this process must not reach an endpoint that a
    tenant named.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not endpoint.api_key.strip():
            raise ValueError("an empty key falls back to the process environment")
        super().__init__(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url or OPENAI_URL,
            http_client=endpoint.client,
            # Asking again is done where it is known what was said (agents.attempts).
            max_retries=0,
        )
        self.organization = None
        self.project = None
        self.admin_api_key = None
        self.webhook_secret = None
        self._custom_headers = {}
        self._ambient_authorizations = frozenset()
        vars(self.chat)["completions"] = PlainCompletions(self)  # where the SDK keeps this cached property


class PlainCompletions(AsyncCompletions):
    """Chat completions whose messages and tools go out as they are.

    The SDK walks every value of them by its type annotations to rename what it would spell otherwise, of which chat
    completions have nothing: a third of the time from a run's start to its model request.
    """

    async def create(self, *, messages: Iterable[object], tools: Iterable[object] | Omit = omit, **options: Any) -> Any:
        plain: dict[str, object] = {"messages": list(messages)}
        if not isinstance(tools, Omit):
            plain["tools"] = list(tools)
        body = {**plain, **(options.pop("extra_body", None) or {})}
        return await super().create(messages=[], extra_body=body, **options)


class ChatModel(KnowsTools, OpenAIChatModel):
    """Chat completions."""


class ResponsesModel(KnowsTools, OpenAIResponsesModel):
    """The Responses API."""


class OllamaChatModel(KnowsTools, OllamaModel):
    """Chat completions of Ollama."""


class TextOnlyChatModel(OpenAIChatModel):
    """A model too small for tools: it is not offered any, so that none is promised to it or billed as input."""

    def customize_request_parameters(self, model_request_parameters: ModelRequestParameters) -> ModelRequestParameters:
        parameters = super().customize_request_parameters(model_request_parameters)
        return replace(parameters, function_tools=[])


def http_client(*, trust_env: bool) -> httpx2.AsyncClient:
    """One connection pool for many tenants: it keeps no cookies and follows no redirects."""
    return httpx2.AsyncClient(
        timeout=timeouts(SILENCE),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=trust_env,
        follow_redirects=False,
        event_hooks={"response": [bound]},
    )


def timeouts(silence: float) -> httpx2.Timeout:
    """``silence``: seconds without a byte, before an answer or in the middle of it."""
    return httpx2.Timeout(connect=5, read=silence, write=60, pool=10)


def build(endpoint: Endpoint, name: str, parameters: Mapping[str, object]) -> Model:
    """A model that talks to ``endpoint``; ``provider`` is one of :data:`agents.models.PROVIDERS`."""
    sdk = ExplicitOpenAI(endpoint)
    # The checked names are a subset of ModelSettings' keys, which a type checker cannot see.
    settings = cast(ModelSettings, checked_parameters(parameters))
    # The client of tenants' endpoints has a time for the whole answer only.
    settings["timeout"] = timeouts(float(cast(float, settings.get("timeout", SILENCE))))
    match endpoint.provider:
        case "openai":
            return ResponsesModel(name, provider=OpenAIProvider(openai_client=sdk), settings=settings)
        case "ollama":
            return OllamaChatModel(name, provider=OllamaProvider(openai_client=sdk), settings=settings, profile=WHOLE)
        case "local":
            compatible = OpenAICompatibleProvider("local", openai_client=sdk)
            return TextOnlyChatModel(name, provider=compatible, settings=settings, profile=WHOLE)
        case "openai-chat" if endpoint.base_url is None:
            return ChatModel(name, provider=OpenAIProvider(openai_client=sdk), settings=settings, profile=WHOLE)
        case _:
            # A name of its own: prices of OpenAI's models must not be put on another service's model of that name.
            service = "lmstudio" if endpoint.provider == "lmstudio" else "compatible"
            compatible = OpenAICompatibleProvider(service, openai_client=sdk)
            return ChatModel(name, provider=compatible, settings=settings, profile=WHOLE)
