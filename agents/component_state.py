"""The state of a component that an agent has shown: written by its client between runs, seen by models in the next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturnPart

from agents import schemas
from agents.json_state import check, patched
from agents.schemas import UnusableSchemaError
from db import shown_components
from db.aside import aside
from db.database import Database
from db.errors import AppError, invalid, needs_member, not_found
from db.principal import Principal
from db.transcript import COMPONENTS, OURS

HINT = 'Send {"state": {...}} for a whole one, or {"patch": [...]} with RFC 6902 operations.'


def parse(body: bytes) -> dict[str, Any]:
    """``{"state": {...}}`` or ``{"patch": [...]}``. Raises AppError."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("The body is not JSON.", HINT) from None
    if not isinstance(asked, dict) or len({"state", "patch"} & set(asked)) != 1:
        raise invalid("The body must have either 'state' or 'patch'.", HINT)
    return asked


async def change(
    database: Database, principal: Principal, project_id: UUID, thread: str, component_id: UUID, asked: dict[str, Any]
) -> dict[str, Any]:
    """The new state, which is committed. ``thread``: its id, or its client's name of it. Raises AppError."""
    name = str(component_id)
    if "\x00" in thread:
        raise _no_such_component()
    async with database.transaction(principal, project_id) as connection:
        if not await shown_components.visible(connection, project_id, thread, name):
            raise _no_such_component()
        shown = await shown_components.hold(connection, project_id, thread, name)
        if shown is None:
            raise needs_member()
        if shown.busy:
            raise AppError(
                "thread_busy",
                409,
                "The thread has a run that is not done yet.",
                "Send the state again after its terminal event.",
                True,
                1,
            )
        state = await aside(lambda: _new(shown.kept, asked))
        await shown_components.keep_state(connection, project_id, shown.message_id, name, state)
    return state


def with_states(history: Sequence[ModelMessage]) -> None:
    """Let the model see, in the results of the calls that showed components, what has become of them."""
    states: dict[str, Any] = {}
    for message in history:
        if isinstance(message, ModelResponse):
            kept = (message.metadata or {}).get(OURS, {}).get(COMPONENTS, {})
            states = {one["call"]: one["state"] for one in kept.values() if "state" in one}
            continue
        if not states:
            continue
        for part in message.parts:
            if isinstance(part, ToolReturnPart) and part.tool_call_id in states:
                state = json.dumps(states[part.tool_call_id], ensure_ascii=False)
                part.content = f"{part.content} Its state is now: {state}"


def _no_such_component() -> AppError:
    return not_found("component", "Use the messageId that its ACTIVITY_SNAPSHOT had, in its own thread.")


def _new(kept: Mapping[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    state = asked["state"] if "state" in asked else patched(kept.get("state") or {}, asked["patch"])
    if not isinstance(state, dict):
        raise invalid("The state of a component is an object.", HINT, "state_invalid")
    check(state)
    schema = kept.get("stateSchema")
    if schema is not None:
        _hold_to(schema, state)
    return state


def _hold_to(schema: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    try:
        wrong = schemas.faults(schema, state)
    except UnusableSchemaError as error:
        wrong = [f"its schema cannot be used: {error}"]
    if wrong:
        raise AppError("state_invalid", 422, f"The state does not fit its schema. {'; '.join(wrong)}.", HINT)
