"""Everything of the engine that needs pydantic-ai, behind one import of seconds: never made on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_ai.messages import ModelMessage
from pydantic_ai.tools import ToolDefinition

from agents import assistant, component_state, demo, history, initial_messages, journal, run_input, schemas
from agents.assistant import Assistant
from agents.attachments import Attachments, Fetch, no_files
from agents.component_tools import ComponentTools
from agents.conversation import Conversation
from agents.deps import RunDeps
from agents.event_log import EventLog
from agents.history import Turn
from agents.house_mcp import HouseMCP, MCPApp
from agents.house_tools import HouseTools
from agents.interrupts import Consent
from agents.journal import Journal
from agents.meter import Ledger, Meter, Metered
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from agents.narrator import Narrator
from agents.plan import Plan
from agents.run_input import RunInput
from agents.shared_state import StateTools
from db.aside import SMALL, aside
from db.database import Database
from db.principal import Principal
from db.runs import StoredMessage


@dataclass(frozen=True, slots=True)
class Kit:
    """The parts a run is made of."""

    assistant: Assistant
    tools: HouseTools
    component_tools: ComponentTools
    state_tools: StateTools
    factory: ModelFactory
    attachments: Attachments
    mcp: HouseMCP
    database: Database
    consent: Consent
    ledger: Ledger

    async def parse(self, body: bytes) -> RunInput:
        taking = schemas.in_turn if len(body) <= SMALL else aside
        return await taking(lambda: run_input.parse(body))

    async def next_turn(self, stored: str, asked: RunInput, max_input_tokens: int | None) -> Turn:
        if len(stored) + len(asked.text) <= SMALL:
            return history.next_turn(stored, asked, max_input_tokens)
        return await aside(lambda: history.next_turn(stored, asked, max_input_tokens))

    async def change_state(
        self, principal: Principal, project_id: UUID, thread: str, component_id: UUID, body: bytes
    ) -> dict[str, Any]:
        asked = component_state.parse(body)
        return await component_state.change(self.database, principal, project_id, thread, component_id, asked)

    async def told_before(self, messages: Sequence[Mapping[str, Any]], about: Sequence[Any]) -> list[StoredMessage]:
        return await aside(lambda: history.to_store(initial_messages.told(messages, about)))

    def to_store(self, messages: Sequence[ModelMessage]) -> list[StoredMessage]:
        return history.to_store(messages)

    def conversation(self, plan: Plan, log: EventLog) -> Conversation:
        return Conversation(self, plan, log)


def load(
    factory: ModelFactory, mcp_app: MCPApp, fetch: Fetch | None, database: Database, consent: Consent, ledger: Ledger
) -> Kit:
    """Build the one agent, after a scripted turn of a copy without tools: so that no run pays for what is done once.

    Blocks for a while: call it in a thread.
    """
    asyncio.run(_rehearse(factory, ledger))
    mcp = HouseMCP(mcp_app)
    tools = HouseTools(mcp)
    attachments = Attachments(mcp, fetch or no_files)
    return Kit(
        assistant.build(factory, tools),
        tools,
        ComponentTools(),
        StateTools(),
        factory,
        attachments,
        mcp,
        database,
        consent,
        ledger,
    )


class _NoTools(HouseTools):
    async def _definitions(self, grant: Principal) -> list[ToolDefinition]:
        return []


async def _rehearse(factory: ModelFactory, ledger: Ledger) -> None:
    async def never(*_: Any) -> None:
        raise RuntimeError("a rehearsal calls nothing")

    body = b'{"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "hello"}]}'
    turn = history.next_turn("[]", run_input.parse(body))
    nobody = Principal(UUID(int=0), UUID(int=0), None, None, frozenset())
    log = EventLog(nobody.user_id, nobody.user_id, 1, [], lambda _log, _due: None)
    meter = Meter(Metered(nobody.user_id, nobody.user_id, 1), ledger)
    deps = RunDeps(nobody, "rehearsal", "", ModelSpec(demo.MODEL_ID), Narrator(log), meter)
    journal.held.set(Journal(log, {}))
    agent = assistant.build(factory, _NoTools(HouseMCP(never)))
    result = await agent.run(message_history=turn.messages, model=demo.MODEL_ID, deps=deps)
    history.to_store(result.new_messages())
