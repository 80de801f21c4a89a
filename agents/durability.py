"""pydantic-ai's durability on our own journal: which of its operations are steps, and who hears the model live.

A model's answer is heard inside its step, by the run's narrator; a step that comes from the journal says nothing,
since its events are in the log already. Outside a run that has a journal all of this is transparent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.durable_exec import (
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
)
from pydantic_ai.durable_exec._codec import JSON_CODEC

from agents import journal
from agents.answer_usage import bound_usage
from agents.deps import RunDeps
from agents.hearing import Hearing, hearing
from agents.model_errors import bad_response, of_an_answer
from db.transcript import OURS


class JournalBackend(JournalCallableOperationBackend[None]):
    """Carries an operation out as a step of the run's journal, or, when nothing can depend on its record, as it is."""

    def __init__(self, agent_name: str) -> None:
        nothing = RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None)
        super().__init__(agent_name=agent_name, config=nothing)

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        """What the journal has of this answer or call, else what ``body`` gives, once that is in the journal."""
        held = journal.held.get()
        # What the key of such an operation holds is pinned by a test: the context is its only one.
        context = next((part for part in cache_key if isinstance(part, RunContext)), None)
        if held is None or context is None:
            return await body()
        if isinstance(operation_id, ModelRequestId):
            return await held.step(journal.MODEL, context.run_step, "", lambda: _answer(body, context))
        if isinstance(operation_id, ToolsetCallToolId):
            return await held.step(journal.TOOL, context.run_step, context.tool_call_id or name, body)
        return await body()


class Durability(BaseDurabilityCapability[RunDeps]):
    """Attached to the one agent of a process. A run is durable while :data:`agents.journal.held` has its journal."""

    engine_spec = DurabilityEngineSpec(
        engine_name="Innkeeper",
        durable_unit_noun="step",
        durable_container_noun="run",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset({"mcp"}),
        # The house's own tools are behind no connection.
        toolset_lifecycles={"mcp": "enter-never"},
        # What a run may call follows from its rights and its agent, which its next process reads again.
        journal_discovery=False,
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
    )

    def __init__(self) -> None:
        super().__init__()
        self._backend: JournalBackend | None = None

    @property
    def in_durable_context(self) -> bool:
        return journal.held.get() is not None

    def get_durable_operation_backend(self) -> JournalBackend:
        if self._backend is None:
            self._backend = JournalBackend(self.name)
        return self._backend


async def _answer(body: Callable[[], Awaitable[Any]], context: RunContext[RunDeps]) -> dict[str, Any]:
    """An answer of the model, if the run may still ask for one, with its model and the ids under which it was told."""
    deps = context.deps
    await deps.meter.before_request(context, deps.model_spec)
    hearing.set(Hearing(deps.narrator.tell))
    try:
        answer: dict[str, Any] = await body()
    except Exception as error:
        fault = of_an_answer(error)
        if fault is error:
            raise
        raise fault from error
    if _cut_off(answer):
        raise bad_response()
    bound_usage(answer)
    known = answer.get("metadata") or {}
    ours = {"model": deps.model_spec.model, **known.get(OURS, {}), **deps.narrator.ids(), **deps.meter.before()}
    answer["metadata"] = {**known, OURS: ours}
    return answer


def _cut_off(answer: dict[str, Any]) -> bool:
    """Whether the Responses API ended its stream without saying why, which pydantic-ai takes for the end of an answer.
    In chat completions the models' profile sees to that."""
    said = answer.get("finish_reason") or (answer.get("provider_details") or {}).get("finish_reason")
    return answer.get("provider_name") == "openai" and said is None
