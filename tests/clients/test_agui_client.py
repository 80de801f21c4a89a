"""@ag-ui/client 1.0 against ``POST /agui``: its pipeline and ``ag-ui-validate`` judge every stream that it gets."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from ag_ui_validate.pytest_plugin import assert_valid_agui
from starlette.types import Receive, Scope, Send

from tests.clients.javascript import JavaScript
from tests.conftest import House, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Hang, Reset, Status, ToolCall, Turn
from tests.fakes.sockets import on_socket
from tests.serving import Served


class Guest:
    """One user of the JavaScript client, on one thread."""

    def __init__(self, javascript: JavaScript, served: Served, tenant: Tenant, thread: str = "thread-1") -> None:
        self._javascript = javascript
        self._task = {
            "url": f"{served.agui}?project={tenant.project_id}",
            "token": tenant.token,
            "thread": thread,
        }

    async def runs(self, *runs: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
        """Make the runs one after the other in one conversation. The client must find nothing to repair in them."""
        said = await self._javascript.script("agui", {**self._task, **changes, "runs": runs})
        assert said["warnings"] == []
        found: list[dict[str, Any]] = said["runs"]
        for run in found:
            if run["thrown"] is None and not any("abort_at" in one for one in runs):
                assert_valid_agui(run["events"])
        return found


@pytest.fixture
def guest(javascript: JavaScript, served: Served, tenant: Tenant) -> Guest:
    return Guest(javascript, served, tenant)


@pytest.mark.promise("HOME-40", "HOME-20", "HOME-21")
async def test_the_agui_client_holds_a_conversation(guest: Guest, model: ScriptedModel, owner: Owner) -> None:
    model.script(Turn("Good ", "evening."), Turn("Room ", "seven."))
    first, second = await guest.runs({"id": "run-1", "say": "Hello"}, {"id": "run-2", "say": "Which room?"})
    for run, text in ((first, "Good evening."), (second, "Room seven.")):
        assert run["thrown"] is None
        assert run["failed"] is None
        assert run["finished"]["outcome"] == "success"
        assert types(run)[0] == "RUN_STARTED"
        assert types(run)[-1] == "RUN_FINISHED"
        assert [(message["role"], message["content"]) for message in run["messages"]] == [("assistant", text)]
    said = [message["content"] for message in model.requests[1].body["messages"] if message["role"] != "system"]
    assert [text_of(content) for content in said] == ["Hello", "Good evening.", "Which room?"]
    stored = await owner.fetch("SELECT external_id, status, requests FROM runs ORDER BY created_at")
    assert [tuple(row) for row in stored] == [("run-1", "succeeded", 1), ("run-2", "succeeded", 1)]


@pytest.mark.promise("HOME-40", "HOME-20")
async def test_the_agui_client_sees_a_server_tool_called_and_its_result(
    guest: Guest, model: ScriptedModel, tenant: Tenant, owner: Owner
) -> None:
    model.script(
        Turn("One moment. ", ToolCall("create_project", {"name": "From AG-UI"}), ToolCall("list_projects", {})),
        Turn("Done."),
    )
    [run] = await guest.runs({"id": "run-1", "say": "Create a project"})
    assert run["thrown"] is None
    assert run["finished"]["outcome"] == "success"
    assert run["finished"]["pendingToolCallIds"] == []
    roles = [message["role"] for message in run["messages"]]
    assert roles.count("tool") == 2
    assert roles[-1] == "assistant"
    assert run["messages"][-1]["content"] == "Done."
    calls = [call["function"]["name"] for message in run["messages"] for call in message.get("toolCalls", [])]
    assert calls == ["create_project", "list_projects"]
    assert any("From AG-UI" in message["content"] for message in run["messages"] if message["role"] == "tool")
    assert await owner.fetchval("SELECT created_by FROM projects WHERE name = 'From AG-UI'") == tenant.user_id


@pytest.mark.promise("HOME-40", "HOME-20")
async def test_the_agui_client_answers_a_tool_of_its_own_in_the_next_run(guest: Guest, model: ScriptedModel) -> None:
    tool = {
        "name": "ring_the_bell",
        "description": "Rings the bell at the desk.",
        "parameters": {"type": "object", "properties": {"times": {"type": "integer"}}},
    }
    model.script(Turn(ToolCall("ring_the_bell", {"times": 2}, id="bell-1")), Turn("It rang."))
    first, second = await guest.runs(
        {"id": "run-1", "say": "Ring", "tools": [tool]},
        {"id": "run-2", "tools": [tool], "result": {"call": "bell-1", "content": "ding ding"}},
    )
    assert first["finished"]["outcome"] == "success"
    assert first["finished"]["pendingToolCallIds"] == ["bell-1"]
    assert second["thrown"] is None
    assert second["finished"]["outcome"] == "success"
    assert second["messages"][-1]["content"] == "It rang."
    assert "ding ding" in str(model.requests[1].body["messages"])


@pytest.mark.promise("RUN-08", "RUN-12")
async def test_the_agui_client_is_interrupted_and_resumes(
    guest: Guest, model: ScriptedModel, tenant: Tenant, owner: Owner
) -> None:
    gone = ToolCall("delete_project", {"project_id": str(tenant.project_id)}, id="call-1")
    other = uuid4()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'Old', $2)", other, tenant.user_id)
    again = ToolCall("delete_project", {"project_id": str(other)}, id="call-3")
    model.script(Turn(gone, ToolCall("list_projects", {}, id="call-2")), Turn("It stays."), Turn("Yes."))
    model.script(Turn("Now? ", again), Turn("Fine."))
    asked, denied, later, _open, elsewhere = await guest.runs(
        {"id": "run-1", "say": "Delete everything"},
        {"id": "run-2", "answer": {"approved": False, "reason": "Not today."}},
        {"id": "run-3", "say": "Is it there?"},
        {"id": "run-4", "say": "Delete it now"},
        {"id": "run-5", "say": "Never mind", "thread": "thread-1"},
    )
    told = [(message["role"], message.get("toolCallId")) for message in elsewhere["all"]]
    assert told[-4:] == [("assistant", None), ("tool", "call-3"), ("user", None), ("assistant", None)]
    assert told.count(("tool", "call-3")) == 1
    [interrupt] = asked["finished"]["raw"]["interrupts"]
    assert asked["finished"]["outcome"] == "interrupt"
    assert interrupt["toolCallId"] == "call-1"
    assert denied["thrown"] is None
    assert denied["finished"]["outcome"] == later["finished"]["outcome"] == "success"
    assert [message["content"] for message in denied["messages"] if message["role"] == "assistant"] == ["It stays."]
    [result] = [message for message in denied["messages"] if message["role"] == "tool"]
    assert result["toolCallId"] == "call-1"
    assert "Not today." in result["content"]


@pytest.mark.promise("RUN-08", "RUN-12")
async def test_the_agui_client_allows_a_call(guest: Guest, model: ScriptedModel, tenant: Tenant, owner: Owner) -> None:
    other = uuid4()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'Old', $2)", other, tenant.user_id)
    model.script(Turn(ToolCall("delete_project", {"project_id": str(other)}, id="call-1")), Turn("Gone."))
    asked, allowed = await guest.runs(
        {"id": "run-1", "say": "Delete the old one"}, {"id": "run-2", "answer": {"approved": True}}
    )
    assert asked["finished"]["outcome"] == "interrupt"
    assert allowed["thrown"] is None
    assert allowed["finished"]["outcome"] == "success"
    assert [message["toolCallId"] for message in allowed["messages"] if message["role"] == "tool"] == ["call-1"]
    assert not await owner.fetchval("SELECT EXISTS (SELECT FROM projects WHERE id = $1)", other)


# Names to which no client lets a patch lead.
PARIS = {"place": "Paris", "constructor": {"prototype": {"a": 1}}, "__proto__": {"b": 2}}
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(24)
WEATHER = {
    "name": "Weather",
    "description": "The weather of a place.",
    "propsSchema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


@pytest.mark.promise("RUN-07", "RUN-12")
async def test_the_agui_client_has_components_as_activities_and_a_new_one_gets_them_back(
    guest: Guest, model: ScriptedModel
) -> None:
    model.script(
        Turn("Look: ", ToolCall("show_component_Weather", {"place": 1}), ToolCall("list_projects", {}), "Hm."),
        Turn(ToolCall("show_component_Weather", PARIS), "So. ", ToolCall("create_project", {"name": ""})),
        Turn(ToolCall("list_projects", "[1]"), ToolCall("list_projects", {"nul": "\x00"}), "\x00"),
        Turn("There."),
        Turn("Sunny."),
    )
    offer = {"innkeeper": {"components": [WEATHER]}}
    first, second = await guest.runs(
        {"id": "run-1", "say": "Weather?", "props": offer},
        {"id": "run-2", "say": "And now?", "thread": "thread-1"},
    )
    assert first["thrown"] is None
    shown = [message for message in first["all"] if message["role"] == "activity"]
    assert [one["content"]["status"] for one in shown] == ["invalid", "done"]
    assert shown[1]["content"]["props"] == PARIS
    assert shown[1]["content"]["streaming"] == dict.fromkeys(PARIS, "done")
    assert second["thrown"] is None
    assert second["all"][: len(first["all"])] == first["all"], "a client without messages is told them, to the letter"
    assert [message["content"] for message in second["all"] if message["role"] == "user"] == ["Weather?", "And now?"]
    assert second["all"][-1]["content"] == "Sunny."


@pytest.mark.promise("RUN-12")
async def test_the_agui_client_attaches_a_picture(guest: Guest, model: ScriptedModel) -> None:
    model.script(Turn("A dot."), Turn("Red."))
    source = {"type": "data", "value": base64.b64encode(PIXEL).decode(), "mimeType": "image/png"}
    said = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
    first, second = await guest.runs({"id": "run-1", "say": said}, {"id": "run-2", "say": "Its colour?"})
    assert first["thrown"] is None
    assert second["thrown"] is None
    for request in model.requests:
        [picture] = [part for part in request.body["messages"][1]["content"] if part["type"] == "image_url"]
        assert picture["image_url"]["url"].endswith(source["value"])


@pytest.mark.promise("RUN-12")
async def test_the_agui_client_shares_its_state_with_the_agent(guest: Guest, model: ScriptedModel) -> None:
    patch = [{"op": "add", "path": "/items/-", "value": "tea"}, {"op": "replace", "path": "/count", "value": 2}]
    refused = [[{"op": "add", "path": path, "value": 1}] for path in ("/__proto__", "/constructor/prototype")]
    calls = [ToolCall("update_state", {"patch": one}) for one in (*refused, patch)]
    model.script(Turn(*calls), Turn("Done."), Turn("Two."))
    first, second = await guest.runs(
        {"id": "run-1", "say": "Tea", "state": {"items": ["milk"], "count": 1}},
        {"id": "run-2", "say": "How many?", "thread": "thread-1"},
    )
    assert first["thrown"] is None
    assert first["state"] == second["state"] == {"items": ["milk", "tea"], "count": 2}


@pytest.mark.promise("RUN-12")
async def test_the_agui_client_hears_reasoning_and_a_run_that_somebody_cancelled(
    guest: Guest, model: ScriptedModel, owner: Owner, tenant: Tenant, served: Served
) -> None:
    model.script(Turn("<think>", "Hm, ", "well.", "</think>", "Yes."), Turn("Once ", Hang()))
    asking = asyncio.create_task(guest.runs({"id": "run-1", "say": "Hello"}, {"id": "run-2", "say": "A story"}))
    await model.requested(2)
    run_id = await owner.fetchval("SELECT id FROM runs WHERE external_id = 'run-2'")
    headers = {"authorization": f"Bearer {tenant.token}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers, timeout=60) as client:
        assert (await client.post(f"{served.url}/runs/{run_id}/cancel")).status_code == 202
    thought, cancelled = await asking
    assert thought["thrown"] is None
    assert [message["role"] for message in thought["messages"]] == ["reasoning", "assistant"]
    assert cancelled["thrown"] is None
    assert cancelled["finished"]["outcome"] == "cancelled"


@pytest.mark.promise("HOME-40", "HOME-21")
async def test_the_agui_client_gets_one_error_without_the_providers_words(
    guest: Guest, model: ScriptedModel, owner: Owner
) -> None:
    secret = "sk-live-1234 at 10.0.0.7"
    model.script(Status(401, {"error": {"message": f"Incorrect API key provided: {secret}"}}), Turn("Back again."))
    failed, next_run = await guest.runs({"id": "run-1", "say": "Hello"}, {"id": "run-2", "say": "And now?"})
    assert failed["thrown"] is None
    assert types(failed) == ["RUN_STARTED", "RUN_ERROR"]
    assert failed["error"]["code"]
    assert secret not in str(failed)
    assert next_run["finished"]["outcome"] == "success"
    statuses = await owner.fetch("SELECT status, error_code FROM runs ORDER BY created_at")
    assert [tuple(row) for row in statuses] == [("failed", failed["error"]["code"]), ("succeeded", None)]


@pytest.mark.promise("HOME-40", "HOME-21")
async def test_the_agui_client_that_aborts_ends_a_run_that_asked_for_it(
    guest: Guest, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Once upon a time", Hang()))
    run = {"id": "run-1", "say": "A long story", "abort_at": "TEXT_MESSAGE_CONTENT"}
    [aborted] = await guest.runs({**run, "props": {"innkeeper": {"onDisconnect": "cancel"}}})
    assert "TEXT_MESSAGE_CONTENT" in types(aborted)
    assert aborted["error"]["code"] == "abort", "the client's own words, not an error of ours"
    async with asyncio.timeout(60):
        await model.disconnected.wait()

    async def cancelled() -> bool:
        status: str = await owner.fetchval("SELECT status FROM runs")
        return status == "cancelled"

    await eventually(cancelled)


@pytest.mark.promise("HOME-40", "HOME-21")
async def test_a_run_goes_on_without_the_agui_client_that_aborted_and_can_be_read_again(
    guest: Guest, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Once ", *("upon a time " for _ in range(50))))
    run = {"id": "run-1", "say": "A long story", "abort_at": "RUN_STARTED"}
    await guest.runs(run)

    async def ended() -> bool:
        status: str | None = await owner.fetchval("SELECT status FROM runs")
        return status == "succeeded"

    await eventually(ended)
    [again] = await guest.runs({"id": "run-1", "say": "A long story"})
    assert again["finished"]["outcome"] == "success"
    assert again["messages"][-1]["content"].startswith("Once upon a time")
    assert len(model.requests) == 1


@pytest.mark.promise("HOME-40", "HOME-20")
async def test_the_agui_client_is_refused_by_a_problem_document(
    guest: Guest, house: House, tenant: Tenant, model: ScriptedModel
) -> None:
    reader = await house.key(tenant.user_id, scopes=["projects:read"])
    for token, status in ((None, 401), ("ik_sk_wrong", 401), (reader, 403)):
        [refused] = await guest.runs({"id": "run-1", "say": "Hello"}, token=token)
        assert refused["events"] == []
        assert str(status) in str(refused["thrown"])
    assert model.requests == []


@pytest.mark.promise("HOME-40", "HOME-21")
async def test_the_agui_client_finds_every_stream_in_order_whatever_the_model_does(
    guest: Guest, model: ScriptedModel
) -> None:
    strange: dict[str, tuple[tuple[Turn, ...], str]] = {
        "a tool nobody has": ((Turn(ToolCall("open_the_minibar", {})), Turn("None.")), "None."),
        "arguments that are no JSON": ((Turn("So: ", ToolCall("create_project", '{"name": ')), Turn("No.")), "No."),
        "arguments the tool refuses": ((Turn(ToolCall("create_project", {"name": ""})), Turn("A name.")), "A name."),
        "the same call twice": ((Turn(ToolCall("list_projects", {}), ToolCall("list_projects", {})), Turn("2.")), "2."),
        "text around calls": ((Turn("Before.", ToolCall("list_projects", {}), "After."), Turn("End.")), "End."),
        "half of a character": ((Turn("\u2028 \U0001f600 \ud83d", " done"),), "\u2028 \U0001f600 \ufffd done"),
    }
    for turns, _said in strange.values():
        model.script(*turns)
    model.script(Turn("Half a ", Reset()))
    names = [*strange, "a connection that breaks"]
    found = await guest.runs(*({"id": name, "thread": name, "say": name} for name in names))
    ended = {name: (run["thrown"], types(run)[-1]) for name, run in zip(names, found, strict=True)}
    fine = dict.fromkeys(strange, (None, "RUN_FINISHED"))
    assert ended == {**fine, "a connection that breaks": (None, "RUN_ERROR")}
    said = {name: run["messages"][-1]["content"] for name, run in zip(names, found, strict=True) if name in strange}
    assert said == {name: text for name, (_turns, text) in strange.items()}


async def test_the_agui_client_would_tell_of_a_stream_that_breaks_the_protocol(javascript: JavaScript) -> None:
    async def run(*events: dict[str, Any]) -> dict[str, Any]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
            await send({"type": "http.response.body", "body": body})

        async with on_socket(app) as url:
            asked = {"url": url, "thread": "t", "runs": [{"id": "r", "say": "Hello"}]}
            return await javascript.script("agui", asked)

    started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
    finished = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
    content = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hello"}
    disordered = await run(started, content, finished)
    assert disordered["runs"][0]["thrown"] is not None
    unknown = await run({**started, "mood": "fine"}, finished)
    assert "mood" in str(unknown["warnings"])
    assert (await run(started, finished))["warnings"] == []


def types(run: dict[str, Any]) -> list[str]:
    return [event["type"] for event in run["events"]]


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
