"""One model of a run, asked until it says its first word: faults before that are waited out, or left to the next model.

Nothing is asked again once something was said: two answers must never run together. Importing this imports pydantic-ai.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from pydantic_ai.messages import ModelMessage, ModelResponse, PartEndEvent, repair_messages
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from agents import call_ids
from agents.hearing import Hearing, hearing
from agents.model_errors import bad_response, map_model_error, of_an_answer
from agents.portions import Portions
from agents.tool_schemas import KnowsTools
from db.aside import SMALL, aside
from db.errors import AppError
from db.transcript import OURS

FIRST_WAIT: Final = 0.25
"""Seconds before a model is asked again that does not say how long to wait; twice as long each time."""

LONGEST_WAIT: Final = 20.0
"""A model that wants to be left alone for longer is not asked again by this run."""


def in_turn(models: Sequence[tuple[str, Model]], tries: int) -> Model:
    """The first of ``models`` (by their ids) that says something. All but the last are asked once, the last ``tries``
    times, and none again after a fault that asking again does not mend."""
    chain = [Attempts(model, model_id, 1) for model_id, model in models[:-1]]
    chain.append(Attempts(models[-1][1], models[-1][0], tries))
    return chain[0] if len(chain) == 1 else FallbackModel(*chain, fallback_on=_may_pass)


def _may_pass(error: Exception) -> bool:
    heard = hearing.get()
    return not (heard is not None and heard.begun) and map_model_error(error).retryable


class Attempts(WrapperModel):
    """A model with the id under which a run knows it, which its answers carry.

    Who asks gets its answers whole; who hears them (:mod:`agents.hearing`) does so as they come. To hand each event
    from layer to layer up to the agent would cost more than all else that is done with it.
    """

    def __init__(self, wrapped: Model, known_as: str, tries: int) -> None:
        super().__init__(wrapped)
        self._known_as = known_as
        self._tries = tries

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        """As they are: :meth:`request` prepares them, for it can do so beside the event loop."""
        return messages

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        heard = hearing.get() or Hearing(lambda _event: None)
        messages = await self._prepared(messages, model_request_parameters)
        call_ids.before.set(messages)
        for tried in range(1, self._tries + 1):
            try:
                answer = await self._answer(heard, messages, model_settings, model_request_parameters)
            except Exception as error:
                fault = of_an_answer(error)
                wait = None if heard.begun else _wait(fault, tried)
                if tried == self._tries or wait is None:
                    if fault is error:
                        raise
                    raise fault from error
            else:
                answer.metadata = {**(answer.metadata or {}), OURS: {"model": self._known_as}}
                return answer
            await asyncio.sleep(wait)
        raise AssertionError("a model is asked once at least")

    async def _prepared(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> list[ModelMessage]:
        """Messages as the model takes them, repaired as the agent repairs what a model has prepared."""

        def prepared() -> list[ModelMessage]:
            made = self.wrapped.prepare_messages(messages, parameters)
            return messages if made is messages else repair_messages(made)

        if isinstance(self.wrapped, KnowsTools):
            await self.wrapped.meet(parameters)
        return await aside(prepared) if _takes_long(messages) else prepared()

    async def _answer(
        self,
        heard: Hearing,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        async with self.wrapped.request_stream(messages, settings, parameters) as stream:
            portions = Portions()
            async for event in stream:
                if not heard.begun:
                    _check_begun(stream)
                for number, portion in enumerate(portions.of(event)):
                    if number or isinstance(portion, PartEndEvent):
                        await asyncio.sleep(0)
                    heard.hear(portion)
            if not heard.begun:
                _check_begun(stream)
            return stream.get()


def _takes_long(messages: Sequence[ModelMessage]) -> bool:
    """Whether preparing them takes over some milliseconds: a fifth of one for each part, and more for long texts."""
    size = 0
    for message in messages:
        for part in message.parts:
            content = getattr(part, "content", None)
            size += 1_000 + (len(content) if isinstance(content, str) else 0)
            size += 1_000 * len(content) if isinstance(content, list) else 0
        if size > SMALL:
            return True
    return False


def _check_begun(stream: StreamedResponse) -> None:
    """In the Responses API a stream that does not begin as one is taken for a job in the background, which nobody here
    asks for, and is asked after until the end of the run."""
    if stream.state == "suspended":
        raise bad_response()


def _wait(fault: Exception, tried: int) -> float | None:
    """Seconds until asking again is worth it; None when it is not."""
    mapped = map_model_error(fault)
    if not mapped.retryable or mapped.code == "model_timeout":
        # Who has waited that long once does not do it again.
        return None
    # What an error of our own says is for clients.
    asked = None if isinstance(fault, AppError) else getattr(fault, "retry_after", None)
    if isinstance(asked, int | float):
        return float(asked) if asked <= LONGEST_WAIT else None
    backoff: float = FIRST_WAIT * 2 ** (tried - 1) * random.uniform(1, 1.5)  # noqa: S311  nobody guesses at it
    return backoff
