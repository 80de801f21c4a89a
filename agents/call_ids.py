"""Ids of calls: one call of a thread has one id, from its first event on, and one that can be kept.

Some models number their calls anew in each answer, give parallel ones the same id, or name it only once the call is
half written. A client tells calls apart by their ids, and AG-UI has each begin once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from openai import AsyncStream
from openai.types.chat.chat_completion_chunk import Choice
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseStreamEvent,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIStreamedResponse

from agents.narrator import storable

before: ContextVar[Sequence[ModelMessage]] = ContextVar("innkeeper_messages_before", default=())
"""What came before the answer that is asked for."""


class Names:
    """Ids for the calls of one answer that none has in what came before, nor another of its own."""

    def __init__(self) -> None:
        self._before = before.get()
        self._taken: set[str] | None = None

    def own(self, given: str | None) -> str:
        if self._taken is None:
            self._taken = {
                call.tool_call_id
                for message in self._before
                if isinstance(message, ModelResponse)
                for call in message.tool_calls
            }
        own = given if given and storable(given) and given not in self._taken else f"call_{uuid4().hex}"
        self._taken.add(own)
        return own


@dataclass
class OwnIds(OpenAIStreamedResponse):
    """An answer of chat completions whose calls are named so."""

    _names: Names = field(default_factory=Names)
    _known: set[int | None] = field(default_factory=set)

    def _map_tool_call_delta(self, choice: Choice) -> Iterable[ModelResponseStreamEvent]:
        for call in choice.delta.tool_calls or ():
            # What a call is named later on is not heard: its first event has been told.
            call.id = None if call.index in self._known else self._names.own(call.id)
            self._known.add(call.index)
        return super()._map_tool_call_delta(choice)


class NamesCalls(OpenAIChatModel):
    """A model whose calls are named as this module says."""

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return OwnIds


class NamesResponsesCalls(OpenAIResponsesModel):
    """The same of the Responses API."""

    async def _process_streamed_response(self, response: Any, *args: Any, **more: Any) -> Any:
        return await super()._process_streamed_response(_Named(response), *args, **more)  # type: ignore[arg-type]


class _Named:
    """The events of an answer; where pydantic-ai reads the stream, this is one."""

    def __init__(self, stream: AsyncStream[ResponseStreamEvent]) -> None:
        self._stream = stream
        self._names = Names()
        self._known: dict[int, str] = {}

    def __aiter__(self) -> AsyncIterator[ResponseStreamEvent]:
        return self

    async def __anext__(self) -> ResponseStreamEvent:
        event = await anext(self._stream)
        if isinstance(event, ResponseOutputItemAddedEvent | ResponseOutputItemDoneEvent):
            item, place = event.item, event.output_index
            if isinstance(item, ResponseFunctionToolCall):
                if place not in self._known:
                    self._known[place] = self._names.own(item.call_id)
                item.call_id = self._known[place]
        return event

    async def close(self) -> None:
        await self._stream.close()
