"""Every kind of content goes in by AG-UI, reaches the model, and is read again by the tools."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.agents.inn import Inn, body, inn, run, user
from tests.conftest import DatabaseUrls, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Raw, ToolCall, Turn
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("RUN-01")


def data(kind: str, media_type: str) -> dict[str, Any]:
    return encoded(kind, media_type, f"a {kind}".encode())


def encoded(kind: str, media_type: str, value: bytes) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "data", "value": base64.b64encode(value).decode(), "mimeType": media_type}}


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


@pytest.mark.parametrize("interface", ["openai-chat", "openai"])
async def test_what_a_model_cannot_be_given_is_named_to_it_and_text_is_given_in_whatever_charset(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, interface: str
) -> None:
    others = [("video", "video/mp4"), ("audio", "audio/ogg"), ("audio", "audio/x-own"), ("document", "application/x")]
    parts = [
        {"type": "text", "text": "Look"},
        *(data(*other) for other in others),
        encoded("document", "text/csv; charset=latin-1", "café".encode("latin-1")),
        encoded("document", "application/json", b"\xff"),
    ]
    async with inn(urls, model_url=model.base_url, default=f"{interface}:scripted", model_key="k") as house:
        for asked in (user("Look") | {"content": parts}, user("And now?")):
            stream = await run(house, tenant.token, body(asked, thread="t"))
            assert stream.last["type"] == "RUN_FINISHED", stream.last
            told = model.requests[-1].body
            [said, *_later] = [one for one in told.get("messages") or told["input"] if one.get("role") == "user"]
            for (_kind, media_type), part in zip(others, said["content"][1:5], strict=True):
                assert part["text"].startswith(f"[A file of type {media_type} and ")
            for part, text in zip(said["content"][5:], ("café", "\ufffd"), strict=True):
                file = part.get("file_data", "").rpartition(",")[2]
                assert text in (part.get("text") or base64.b64decode(file).decode())
    assert len(model.requests) == 2
