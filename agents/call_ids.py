"""Ids of calls in chat completions: one call of a thread has one id, from its first event on, and one that can be kept.

Some models number their calls anew in each answer, give parallel ones the same id, or name it only once the call is
half written. A client tells calls apart by their ids, and AG-UI has each begin once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import uuid4

from openai.types.chat.chat_completion_chunk import Choice
from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse

from agents.narrator import storable

before: ContextVar[Sequence[ModelMessage]] = ContextVar("innkeeper_messages_before", default=())
"""What came before the answer that is asked for."""


@dataclass
class OwnIds(OpenAIStreamedResponse):
    """An answer whose calls have ids that none has in what came before, nor another of its own."""

    _before: Sequence[ModelMessage] = field(default_factory=before.get)
    _taken: set[str] | None = None
    _known: set[int | None] = field(default_factory=set)

    def _map_tool_call_delta(self, choice: Choice) -> Iterable[ModelResponseStreamEvent]:
        for call in choice.delta.tool_calls or ():
            # What a call is named later on is not heard: its first event has been told.
            call.id = None if call.index in self._known else self._own(call.id)
            self._known.add(call.index)
        return super()._map_tool_call_delta(choice)

    def _own(self, given: str | None) -> str:
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


class NamesCalls(OpenAIChatModel):
    """A model whose calls are named as this module says."""

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return OwnIds
