"""The OpenAI family of models. Importing this imports pydantic-ai and the OpenAI SDK: seconds, so off the event loop.

Only :class:`agents.models.ModelFactory` imports it, in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar, cast
from urllib.request import getproxies

import httpx2
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, AsyncStream, Omit
from openai._base_client import make_request_options
from openai._httpx2 import request_exceptions, timeout_exceptions
from openai._models import FinalRequestOptions
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from agents.bounded_answers import UNPACKED, bound
from agents.call_ids import NamesCalls, NamesResponsesCalls
from agents.model_settings import checked_parameters
from agents.model_transport import ModelTransport
from agents.paced_stream import paced
from agents.sent_tools import SendsTools, written
from agents.taken_content import ChatContent, ResponsesContent, TextAlone
from agents.tool_schemas import KnowsTools

_T = TypeVar("_T")
SILENCE = 120.0
"""Seconds that a model may say nothing, unless the parameter ``timeout`` says otherwise."""
WHOLE = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
"""A stream that just ends has been cut off: whatever speaks this interface says why it ends."""
OPENAI_URL = "https://api.openai.com/v1"
PATH = "/chat/completions"
PROXIED = frozenset({"http", "https", "all"})
"""What the environment names proxies for, of which NO_PROXY alone is none (as httpx2 reads it)."""
_OPTIONS = ("extra_headers", "extra_query", "extra_body", "timeout")


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

    def _process_response_data(self, *, data: object, cast_to: type[_T], response: httpx2.Response) -> _T:
        """A piece of a stream by its compiled validator, which costs a tenth of the SDK's own way of building it.
        That way takes anything, so it is left to it what is not as documented."""
        if cast_to is ChatCompletionChunk:
            try:
                return cast(_T, ChatCompletionChunk.model_validate(data))
            except ValidationError:
                pass
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)


class PlainCompletions(AsyncCompletions):
    """Chat completions whose requests go out as they are, under a head that the SDK makes once.

    The SDK walks every value of a request by its type annotations to rename what it would spell otherwise, of which
    chat completions have nothing, and makes the same head anew each time: together, half of the time from a run's start
    to its model request.
    """

    def __init__(self, client: AsyncOpenAI) -> None:
        super().__init__(client)
        self._heads: dict[tuple[object, ...], httpx2.Request] = {}

    async def create(self, **asked: Any) -> Any:
        options = {name: asked.pop(name) for name in _OPTIONS if name in asked}
        extra = options.pop("extra_body", None) or {}
        body = {name: value for name, value in asked.items() if not isinstance(value, Omit)} | extra
        if body.get("stream") is True:
            response = await self._stream_of(await self._request(body, options))
            return AsyncStream(cast_to=ChatCompletionChunk, response=response, client=self._client)
        return await self._post(
            PATH, body=body, options=_options(**options), cast_to=ChatCompletion, stream=False, stream_cls=None
        )

    async def _request(self, body: Mapping[str, object], options: Mapping[str, Any]) -> httpx2.Request:
        headers = options.get("extra_headers") or {}
        alike = (repr(options.get("timeout")), *headers.items(), *(options.get("extra_query") or {}).items())
        head = self._heads.get(alike)
        if head is None:
            asked = FinalRequestOptions.construct(method="post", url=PATH, json_data={}, **_options(**options))
            head = self._heads[alike] = self._client._build_request(asked)  # noqa: SLF001  (as it sends them itself)
            del head.headers["content-length"]
        return httpx2.Request(
            "POST", head.url, headers=head.headers, content=await written(body), extensions=dict(head.extensions)
        )

    async def _stream_of(self, request: httpx2.Request) -> httpx2.Response:
        """Raises the SDK's errors, as it does itself where nothing is asked again."""
        try:
            response = await self._client._client.send(request, stream=True)  # noqa: SLF001  (its HTTP client)
        except timeout_exceptions() as error:
            raise APITimeoutError(request=request) from error
        except request_exceptions() as error:
            raise APIConnectionError(request=request) from error
        if response.is_success:
            return response
        await response.aread()
        raise self._client._make_status_error_from_response(response)  # noqa: SLF001  (the class by its status)


def _options(**options: Any) -> Any:
    return make_request_options(security={"bearer_auth": True}, **options)


class ChatModel(ChatContent, SendsTools, NamesCalls):
    """Chat completions."""


class ResponsesModel(ResponsesContent, KnowsTools, NamesResponsesCalls):
    """The Responses API."""


class OllamaChatModel(ChatContent, SendsTools, NamesCalls, OllamaModel):
    """Chat completions of Ollama."""


class TextOnlyChatModel(TextAlone, OpenAIChatModel):
    """A model too small for tools: it is not offered any, so that none is promised to it or billed as input."""

    def customize_request_parameters(self, model_request_parameters: ModelRequestParameters) -> ModelRequestParameters:
        parameters = super().customize_request_parameters(model_request_parameters)
        return replace(parameters, function_tools=[])


def http_client(*, trust_env: bool) -> httpx2.AsyncClient:
    """One connection pool for many tenants: it keeps no cookies and follows no redirects. ``trust_env``: whether it
    goes through the proxies that the environment names."""
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    headers = {"accept-encoding": UNPACKED}
    if not (trust_env and PROXIED & getproxies().keys()):
        transport = ModelTransport(httpx2.create_ssl_context(trust_env=trust_env))
        return httpx2.AsyncClient(
            timeout=timeouts(SILENCE),
            headers=headers,
            cookies=cookies,
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )
    return paced(
        httpx2.AsyncClient(
            timeout=timeouts(SILENCE),
            headers=headers,
            limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
            cookies=cookies,
            follow_redirects=False,
            event_hooks={"response": [bound]},
        )
    )


def timeouts(silence: float) -> httpx2.Timeout:
    """``silence``: seconds without a byte, before an answer or in the middle of it."""
    return httpx2.Timeout(connect=5, read=silence, write=60, pool=10)


def build(endpoint: Endpoint, name: str, parameters: Mapping[str, object]) -> Model:
    """A model that talks to ``endpoint``; ``provider`` is one of :data:`db.model_ids.PROVIDERS`."""
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
