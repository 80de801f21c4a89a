"""Every kind of content goes in by AG-UI, reaches the model, and is read again by the tools."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.agents.inn import Inn, body, run, user
from tests.conftest import Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Raw, ToolCall, Turn
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("RUN-01")


def data(kind: str, media_type: str) -> dict[str, Any]:
    value = base64.b64encode(f"a {kind}".encode()).decode()
    return {"type": kind, "source": {"type": "data", "value": value, "mimeType": media_type}}


def thinking(text: str) -> Raw:
    choice = {"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": [choice]}
    return Raw(b"data: " + json.dumps(chunk).encode() + b"\n\n")


async def test_text_pictures_sound_documents_calls_results_and_reasoning_are_kept_and_read_again(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    parts = [
        {"type": "text", "text": "Look"},
        data("image", "image/png"),
        data("audio", "audio/wav"),
        data("document", "application/pdf"),
    ]
    calls = [ToolCall("list_projects", {"limit": number}, id=f"call {number}") for number in (1, 2)]
    model.script(Turn(thinking("Hm, "), thinking("projects."), "I look. ", *calls), Turn("Done."))
    stream = await run(house_open, tenant.token, body({**user(""), "content": parts}, thread="t"))
    assert stream.last["type"] == "RUN_FINISHED"
    sent = model.requests[0].body["messages"][-1]["content"]
    assert [part["type"] for part in sent] == ["text", "image_url", "input_audio", "file"]

    dispatch = Dispatch(Services(house_open.database, house_open.engine))
    given = {"project_id": str(tenant.project_id)}
    threads = (await dispatch.call(tenant.principal, "list_threads", given)).structured["threads"]
    thread = await dispatch.call(tenant.principal, "get_thread", {**given, "thread_id": threads[0]["id"]})
    asked, answered, results, last = thread.structured["messages"][::-1]
    assert [part["type"] for part in asked["parts"][0]["content"]] == ["text", "image", "audio", "document"]
    assert asked["parts"][0]["content"][1] == parts[1]
    reasoning, text = answered["parts"]
    assert (reasoning["role"], reasoning["content"]) == ("reasoning", "Hm, projects.")
    assert text["content"] == "I look. "
    assert [call["id"] for call in text["toolCalls"]] == ["call 1", "call 2"]
    assert {part["toolCallId"] for part in results["parts"]} == {"call 1", "call 2"}
    assert last["parts"][0]["content"] == "Done."
