"""One run's talk with its model: from the turn it was given to the messages it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolDenied, UsageLimits, capture_run_messages
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolReturnPart

from agents import agui, chosen_models, client_tools, component_offers, history, interrupts
from agents.component_offers import Component
from agents.deps import RunDeps
from agents.event_log import EventLog
from agents.interrupts import Question
from agents.journal import Journal, held
from agents.meter import Meter, Metered, counted_out
from agents.narrator import Narrator
from agents.open_calls import CUT_OFF, INTERRUPTS, cut_off
from agents.patience import patiently
from agents.plan import Plan
from agents.prices import Prices
from agents.shared_state import UPDATE, SharedState
from db.agents import DEMO, Limits
from db.errors import invalid
from db.runs import Ending, Status
from db.spending import Used
from db.transcript import OURS, PARTS, RESULTS

if TYPE_CHECKING:
    from pydantic_ai.toolsets import AbstractToolset

    from agents.kit import Kit


@dataclass(frozen=True, slots=True)
class Pause:
    """What a run leaves to be answered by the next one: the ids of calls that the client is to make, and calls that
    wait for a person, as AG-UI interrupts."""

    calls: Sequence[str] = ()
    interrupts: Sequence[dict[str, Any]] = ()


class Conversation:
    """``hold`` once, then ``close`` and ``ending``, whatever came of it."""

    def __init__(
        self,
        kit: Kit,
        plan: Plan,
        log: EventLog,
    ) -> None:
        self._kit = kit
        self._plan = plan
        self._log = log
        self._narrator = Narrator(log, plan.told, plan.showing)
        self._journal = Journal(log, plan.steps)
        self._meter = Meter(_metered(plan, log.epoch), kit.ledger, plan.broken)
        self._messages: Sequence[ModelMessage] = ()
        self._model: str | None = None
        self._asked: dict[str, str] = {}

    async def hold(self) -> Pause:
        """Let the agent answer. Returns what it leaves open; raises what went wrong."""
        plan = self._plan
        state = self._opened()
        spec = await patiently(lambda: chosen_models.first(self._kit.factory, plan))
        self._model = spec.model
        shown = await patiently(self._components)
        deps = RunDeps(
            plan.grant,
            str(plan.run_id),
            self._instructions(),
            spec,
            self._narrator,
            self._meter,
            shown,
            await patiently(lambda: chosen_models.fallbacks(self._kit.factory, plan)),
            state,
            plan.asked.wishes,
        )
        theirs = await self._client_tools(shown)
        await self._check_choice(deps)
        said = await patiently(lambda: self._kit.attachments.with_bytes(plan.grant, plan.turn.messages, plan.turn.said))
        self._narrator.told_by_us(plan.turn.denied)
        held.set(self._journal)
        with capture_run_messages() as messages:
            self._messages = messages
            try:
                output = await self._answered(
                    message_history=said,
                    deferred_tool_results=_decided(plan.turn.decisions),
                    model=spec.model,
                    deps=deps,
                    toolsets=self._toolsets(deps, theirs),
                    usage_limits=_usage_limits(plan.settings.limits),
                    run_id=str(plan.run_id),
                    conversation_id=str(plan.thread_id),
                )
            except UsageLimitExceeded as error:
                raise counted_out(error, plan.settings.limits) from error
        return await self._paused(output) if isinstance(output, DeferredToolRequests) else Pause()

    async def _answered(self, **asked: Any) -> str | DeferredToolRequests:
        """What the agent comes to. Its answers are heard where the model gives them; what its calls return, here."""
        async with self._kit.assistant.iter(**asked) as run:
            node = run.next_node
            while not Agent.is_end_node(node) and run.result is None:
                if Agent.is_call_tools_node(node) and node.model_response.tool_calls:
                    async with node.stream(run.ctx) as events:
                        async for event in events:
                            self._narrator.tell(event)
                node = await run.next(node)
        if run.result is None:
            raise RuntimeError("the agent came to no end")
        output: str | DeferredToolRequests = run.result.output
        return output

    def close(self) -> None:
        """Close what the last events left open: a terminal event follows."""
        self._narrator.close()

    def ending(self, status: Status, error_code: str | None, outcome: Mapping[str, Any] | None) -> Ending:
        """What is stored of this run, with the part of an answer that had come when it broke off."""
        new = self._new_messages()
        if self._asked:
            _remember(new, INTERRUPTS, dict(self._asked))
        lost = None if status == "succeeded" else cut_off(new, {tool.name for tool in self._plan.asked.tools})
        if lost is not None:
            _remember(new, CUT_OFF, lost)
        self._meter.broken_off("".join(self._narrator.broken_off().values()))
        scripted = self._plan.agent == DEMO
        used = Used() if scripted else self._meter.used
        return Ending(
            status=status,
            error_code=error_code,
            outcome=outcome,
            model=self._meter.model or self._model,
            requests=len(self._meter.answers),
            tool_calls=sum(
                isinstance(part, ToolReturnPart)
                for message in new
                if isinstance(message, ModelRequest)
                for part in message.parts
            ),
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cost_usd=None if scripted else self._meter.cost,
            messages=history.to_store(new),
        )

    def usage(self, ending: Ending) -> list[dict[str, Any]]:
        """AG-UI ``TokenUsage`` of the whole run, for each model that answered; empty when no tokens were counted."""
        if not ending.input_tokens + ending.output_tokens:
            return []
        return [
            {"model": model, "inputTokens": taken, "outputTokens": given, "totalTokens": taken + given}
            for model, taken, given in self._meter.tokens()
        ]

    async def _paused(self, output: DeferredToolRequests) -> Pause:
        calls = [call.tool_call_id for call in output.calls]
        self._asked = {call.tool_call_id: output.metadata[call.tool_call_id]["approval"] for call in output.approvals}
        if not self._asked:
            return Pause(calls)
        # One question for all calls that are the same call.
        first = {UUID(record): call_id for call_id, record in reversed(self._asked.items())}
        found = await patiently(lambda: self._questions(list(first)))
        told = [interrupts.told(record, first[record], question) for record, question in found.items()]
        return Pause(calls, sorted(told, key=lambda one: list(self._asked).index(one["toolCallId"])))

    async def _questions(self, records: Sequence[UUID]) -> Mapping[UUID, Question]:
        plan = self._plan
        async with self._kit.database.transaction(plan.grant, plan.project_id, read_only=True) as connection:
            return await self._kit.consent.questions(connection, plan.grant, records)

    def _instructions(self) -> str:
        settings, asked = self._plan.settings, self._plan.asked
        texts = [settings.instructions] if settings.instructions else []
        if settings.allow_prompt_override:
            texts += history.system_texts(asked.messages)
        texts.append(f"You work in the project {self._plan.project_id}.")
        return "\n\n".join(texts)

    def _opened(self) -> SharedState | None:
        plan, told = self._plan, self._plan.opening
        if told.anew:
            self._log.emit(agui.messages_snapshot([]))
        if told.messages is not None:
            self._log.emit(agui.messages_snapshot(told.messages))
        if told.state is None:
            return None
        self._log.emit(agui.state_snapshot(told.state))
        if any(tool.name == UPDATE for tool in plan.asked.tools):
            return None
        return SharedState(told.state, self._kit.database, plan.grant, plan.project_id, plan.thread_id, self._log.emit)

    async def _components(self) -> Mapping[str, Component]:
        plan = self._plan
        if not plan.asked.components:
            return {}
        # Its client names them, not its model: the agent's allowed tools say nothing about that.
        reader = replace(plan.grant, tools=None)
        found = await component_offers.resolved(self._kit.mcp, reader, plan.project_id, plan.asked.components)
        self._narrator.components = found
        return found

    def _toolsets(self, deps: RunDeps, theirs: AbstractToolset[RunDeps] | None) -> list[AbstractToolset[RunDeps]]:
        """Besides the house's own. Each costs every run that has it, whether there is anything in it or not."""
        toolsets = [theirs] if theirs is not None else []
        if deps.components:
            toolsets.append(self._kit.component_tools)
        if deps.state is not None:
            toolsets.append(self._kit.state_tools)
        return toolsets

    async def _client_tools(self, shown: Mapping[str, Component]) -> AbstractToolset[RunDeps] | None:
        if not self._plan.asked.tools:
            return None
        taken = await self._kit.tools.names(self._plan.grant) | set(shown)
        return client_tools.offered(self._plan.asked.tools, taken)

    async def _check_choice(self, deps: RunDeps) -> None:
        chosen = deps.wishes.tool
        if chosen is None:
            return
        known = await self._kit.tools.names(deps.grant) | deps.components.keys()
        known |= {tool.name for tool in self._plan.asked.tools} | ({UPDATE} if deps.state is not None else set())
        if chosen not in known:
            raise invalid(
                f"There is no tool {chosen!r} to choose.", "Name one that this run has.", "tool_choice_unknown"
            )

    def _new_messages(self) -> list[ModelMessage]:
        """What this run added. The first message it stamped is the request it was given, which is stored already;
        unless it began with calls that waited for a person."""
        stamp = str(self._plan.run_id)
        new = [message for message in self._messages if message.run_id == stamp]
        if not self._plan.turn.decisions:
            new = new[1:]
        said = self._narrator.broken_off()
        # A step that was cut off gives nothing back of what its model had said; the narrator heard it.
        last = new.pop() if new and isinstance(new[-1], ModelResponse) and not new[-1].parts else None
        if said and (last is not None or not new or isinstance(new[-1], ModelRequest)):
            answer = last if isinstance(last, ModelResponse) else ModelResponse(parts=[], state="interrupted")
            ours = {**self._narrator.ids(), PARTS: list(said)}
            new.append(replace(answer, parts=[TextPart(text) for text in said.values()], metadata={OURS: ours}))
        for message in new:
            self._note_order(message)
        return new

    def _note_order(self, message: ModelMessage) -> None:
        results = [part for part in message.parts if isinstance(part, ToolReturnPart)]
        order = self._narrator.in_order(results)
        if isinstance(message, ModelRequest) and order != [part.tool_call_id for part in results]:
            ours = (message.metadata or {}).get(OURS, {})
            message.metadata = {**(message.metadata or {}), OURS: {**ours, RESULTS: order}}


def _decided(decisions: Mapping[str, str | None]) -> DeferredToolResults | None:
    if not decisions:
        return None
    return DeferredToolResults(
        approvals={call_id: denial is None or ToolDenied(denial) for call_id, denial in decisions.items()}
    )


def _remember(new: Sequence[ModelMessage], name: str, value: object) -> None:
    """Note in the last answer what becomes of its calls."""
    for message in reversed(new):
        if isinstance(message, ModelResponse):
            ours = {**(message.metadata or {}).get(OURS, {}), name: value}
            message.metadata = {**(message.metadata or {}), OURS: ours}
            return


def _usage_limits(limits: Limits) -> UsageLimits:
    # Tokens and cost are the meter's: pydantic-ai warns of each answer that names none.
    return UsageLimits(request_limit=limits.steps, tool_calls_limit=limits.tool_calls)


def _metered(plan: Plan, epoch: int) -> Metered:
    settings, grant = plan.settings, plan.grant
    return Metered(
        plan.project_id,
        plan.run_id,
        epoch,
        settings.limits,
        Prices(settings.model_prices),
        plan.agent != DEMO and settings.budgeted_for(grant.end_user_id),
        grant.run_depth > 1 or plan.shared,
        grant.end_user_id is not None,
    )
