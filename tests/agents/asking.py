"""Runs whose calls wait for a person: ``send`` sends something out of the house."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.agents.inn import Inn, Stream, body, inn, run, user
from tests.conftest import DatabaseUrls, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import ToolCall, Turn
from tests.server.approving import SENDING


@pytest_asyncio.fixture
async def house_open(urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Inn]:
    async with inn(urls, model_url=model.base_url, catalog=SENDING) as opened:
        yield opened


def sending(tenant: Tenant, to: str = "ada", text: str = "") -> ToolCall:
    return ToolCall("send", {"project_id": str(tenant.project_id), "to": to, "text": text})


def resuming(*answers: tuple[dict[str, Any], Any], thread: str = "t", **more: Any) -> dict[str, Any]:
    """The input of a run that answers interrupts; ``None`` leaves the payload out, ``"cancelled"`` is the status."""
    entries = []
    for interrupt, answer in answers:
        entry: dict[str, Any] = {"interruptId": interrupt["id"], "status": "resolved"}
        if answer == "cancelled":
            entry["status"] = answer
        elif answer is not None:
            entry["payload"] = answer if isinstance(answer, dict) else {"approved": answer}
        entries.append(entry)
    return body(thread=thread, resume=entries, **more)


def code(stream: Stream) -> str:
    return str(stream.problem["type"]).removeprefix("urn:innkeeper:error:")


def told(model: ScriptedModel) -> dict[str, str]:
    """What the model was told about its calls in its last request, by the call's id."""
    messages = model.requests[-1].body["messages"]
    return {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}


async def interrupted(house: Inn, tenant: Tenant, model: ScriptedModel, *calls: ToolCall) -> list[dict[str, Any]]:
    model.script(Turn("A moment. ", *calls), Turn("Done."))
    stream = await run(house, tenant.token, body(user("Send it"), thread="t"))
    assert stream.last["outcome"]["type"] == "interrupt", stream.events
    found: list[dict[str, Any]] = stream.last["outcome"]["interrupts"]
    return found
