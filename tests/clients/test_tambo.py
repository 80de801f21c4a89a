"""npm @tambo-ai/client 1.1 and @tambo-ai/typescript-sdk 0.96 against ``/v1``: real clients of the reference's wire."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import httpx2
import pytest
import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from tests.clients.javascript import JavaScript
from tests.clients.tambo import Inn, Told, events, opened, refused, texts, types, user
from tests.fakes.script import Gate, Hang, Status, ToolCall, Turn
from tests.server.oauth.people import Inn as AuthorizationServer

if TYPE_CHECKING:
    from server.services import Services

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inn(
    cluster: EmbeddedPostgres, javascript: JavaScript, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Inn]:
    async with opened(cluster, javascript, tmp_path_factory.mktemp("files")) as inn:
        yield inn


BELL = {
    "name": "ring_the_bell",
    "description": "Rings the bell at the desk.",
    "inputSchema": {"type": "object", "properties": {"times": {"type": "integer"}}, "required": ["times"]},
    "outputSchema": {"type": "string"},
    "returns": "ding ding",
}
WEATHER = {
    "name": "Weather",
    "description": "The weather of a place.",
    "props": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


async def test_the_client_talks_in_a_thread_and_reads_it_again(inn: Inn) -> None:
    client = await inn.client()
    inn.model.script(Turn("<think>", "Hm.", "</think>", "Good ", "evening."), Turn("Room ", "seven."))
    first, second, read, listed, fetched, newest, oldest = await client.does(
        {"run": "Hello", "additionalContext": {"page": "/home"}},
        {"run": "Which room?", "thread": "$thread"},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
        {"client": "listThreads"},
        {"client": "fetchThread", "args": ["$thread"]},
        {"sdk": "threads.messages.list", "args": ["$thread", {"limit": 3, "order": "desc"}]},
        {"sdk": "threads.messages.list", "args": ["$thread", {"limit": 3}]},
    )
    assert types(first) == [
        "RUN_STARTED",
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_END"),
        *("THINKING_TEXT_MESSAGE_START", "THINKING_TEXT_MESSAGE_CONTENT", "THINKING_TEXT_MESSAGE_END"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        "RUN_FINISHED",
    ]
    assert first["thread"]["messages"][-1]["reasoning"] == ["Hm."]
    assert texts(second["thread"]) == ["Hello", "Good evening.", "Which room?", "Room seven."]
    assert texts(read) == texts(second["thread"])
    answers = [message["id"] for message in fetched["messages"] if message["role"] == "assistant"]
    assert answers == [read["messages"][1]["id"], read["messages"][3]["id"]], "who has heard an answer knows it again"
    assert [one["id"] for one in listed] == [read["id"]] == [second["threadId"]]
    assert (read["lastCompletedRunId"], read["runStatus"]) == (second["runId"], "idle")
    assert texts(newest) == ["Room seven.", "Which room?", "Good evening."]
    assert texts(oldest) == ["Hello", "Good evening.", "Which room?"]
    cursors = newest["nextCursor"], oldest["nextCursor"]
    last, rest = await client.does(
        {"sdk": "threads.messages.list", "args": [read["id"], {"limit": 3, "order": "desc", "cursor": cursors[0]}]},
        {"sdk": "threads.messages.list", "args": [read["id"], {"limit": 3, "cursor": cursors[1]}]},
    )
    assert [[*texts(page), page["hasMore"]] for page in (last, rest)] == [["Hello", False], ["Room seven.", False]]
    assert "/home" in str(inn.model.requests[-2].body["messages"])


@pytest.mark.promise("RUN-06")
async def test_the_client_carries_out_tools_of_its_own(inn: Inn) -> None:
    client = await inn.client(tools=[BELL, {**BELL, "name": "break_it", "fails": "It is broken."}])
    inn.model.script(
        Turn(
            "One moment. ", ToolCall("ring_the_bell", {"times": 2}, id="a"), ToolCall("break_it", {"times": 1}, id="b")
        ),
        Turn("It rang."),
    )
    run, read = await client.does(
        {"run": "Ring", "toolChoice": "required"}, {"sdk": "threads.retrieve", "args": ["$thread"]}
    )
    choices = [request.body.get("tool_choice") for request in inn.model.requests[-2:]]
    assert choices == ["required", "auto"], "the client sends its choice again, and would never come to an end"
    assert client.called == [
        {"name": "ring_the_bell", "input": {"times": 2}},
        {"name": "break_it", "input": {"times": 1}},
    ]
    [awaiting] = [event["value"] for event in run["events"] if event.get("name") == "tambo.run.awaiting_input"]
    assert awaiting["pendingToolCalls"][0] == {
        "toolCallId": "a",
        "toolName": "ring_the_bell",
        "arguments": '{"times": 2}',
    }
    assert types(run).count("RUN_STARTED") == 2, "the client hung up at awaiting_input, and that ended nothing"
    answer, results, last = read["messages"][1:]
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert answer["content"][1] == {"type": "tool_use", "id": "a", "name": "ring_the_bell", "input": {"times": 2}}
    assert [(block["toolUseId"], block.get("isError")) for block in results["content"]] == [("a", None), ("b", True)]
    assert texts({"messages": [last]}) == ["It rang."]
    assert "ding ding" in str(inn.model.requests[-1].body["messages"])


async def test_calls_that_are_left_open_are_told_and_answered_later(inn: Inn) -> None:
    client = await inn.client(tools=[BELL])
    inn.model.script(Turn(ToolCall("ring_the_bell", {"times": 1}, id="a")), Turn("It rang."))
    run, waiting = await client.does(
        {"run": "Ring", "autoExecuteTools": False}, {"sdk": "threads.retrieve", "args": ["$thread"]}
    )
    assert waiting["pendingToolCallIds"] == ["a"]
    assert [message["role"] for message in run["thread"]["messages"]] == ["user", "assistant"]
    thread, before = waiting["id"], waiting["lastCompletedRunId"]
    result = {"type": "tool_result", "toolUseId": "a", "content": [{"type": "text", "text": "ding"}]}
    wrong, stale, answered, done = await client.does(
        *(
            {"sdk": "threads.runs.run", "args": [thread, {"message": user(said), "previousRunId": previous}]}
            for said, previous in (({**result, "toolUseId": "z"}, before), (result, None), (result, before))
        ),
        {"sdk": "threads.retrieve", "args": [thread]},
    )
    assert refused(wrong) == (400, "tool_result_unexpected")
    assert refused(stale) == (400, "previous_run_mismatch")
    assert answered[-1]["type"] == "RUN_FINISHED"
    assert "pendingToolCallIds" not in done


async def test_the_client_sees_the_houses_own_tools_and_their_results(inn: Inn) -> None:
    client = await inn.client()
    inn.model.script(Turn(ToolCall("list_projects", {}), ToolCall("list_files", {})), Turn("One project."))
    run, read = await client.does({"run": "Which?"}, {"sdk": "threads.retrieve", "args": ["$thread"]})
    shape = [[block["type"] for block in message["content"]] for message in run["thread"]["messages"]]
    assert shape == [["text"], ["tool_use", "tool_use"], ["tool_result", "tool_result"], ["text"]]
    assert [message["id"] for message in run["thread"]["messages"]][1:] == [one["id"] for one in read["messages"]][1:]


@pytest.mark.promise("RUN-07")
async def test_the_client_is_shown_components_and_keeps_their_state(inn: Inn) -> None:
    client = await inn.client(components=[WEATHER])
    inn.model.script(
        Turn(ToolCall("show_component_Weather", {"place": 1}), ToolCall("show_component_Weather", {"place": "Paris"})),
        Turn("There."),
        Turn("Sunny."),
    )
    run, read = await client.does({"run": "Weather?"}, {"sdk": "threads.retrieve", "args": ["$thread"]})
    names = [event["name"] for event in run["events"] if event["type"] == "CUSTOM"]
    assert names.count("tambo.component.start") == names.count("tambo.component.end") == 2
    assert "tambo.component.props_delta" in names
    answer = run["thread"]["messages"][1]
    assert [block["streamingState"] for block in answer["content"]] == ["done", "done"]
    assert answer["content"][1]["props"] == {"place": "Paris"}
    [kept] = read["messages"][1]["content"]
    assert kept == {key: value for key, value in answer["content"][1].items() if key != "streamingState"}
    thread, name = read["id"], kept["id"]
    assert read["messages"][1]["id"] == answer["id"]
    whole, patched, wrong, nowhere, talk, later = await client.does(
        {"sdk": "threads.state.updateState", "args": [name, {"threadId": thread, "state": {"open": False}}]},
        {
            "sdk": "threads.state.updateState",
            "args": [name, {"threadId": thread, "patch": [{"op": "replace", "path": "/open", "value": True}]}],
        },
        {
            "sdk": "threads.state.updateState",
            "args": [name, {"threadId": thread, "patch": [{"op": "remove", "path": "/x"}]}],
        },
        {"sdk": "threads.state.updateState", "args": [thread, {"threadId": thread, "state": {}}]},
        {"client": "fetchThread", "args": [thread]},
        {"run": "And now?", "thread": thread},
    )
    assert (whole, patched) == ({"state": {"open": False}}, {"state": {"open": True}})
    assert refused(wrong) == (400, "patch_invalid")
    assert refused(nowhere) == (404, "component_not_found")
    assert talk["messages"][1]["content"][0]["state"] == {"open": True}
    assert texts({"messages": later["thread"]["messages"][-1:]}) == ["Sunny."]
    assert "open" in str(inn.model.requests[-1].body["messages"])


async def test_a_run_that_is_cancelled_or_fails_ends_once_and_the_client_goes_on(inn: Inn) -> None:
    client = await inn.client()
    secret = "sk-live-1234 at 10.0.0.7"
    inn.model.script(
        Turn("Once ", Hang()),
        Status(401, {"error": {"message": f"Incorrect API key provided: {secret}"}}),
        Turn("Back."),
    )
    impatient = {"sdk": "threads.runs.run", "args": ["$thread", {"message": user({"type": "text", "text": "Well?"})}]}
    cancelled, between, failed, after, again, read = await client.does(
        {"run": "A story", "cancelAt": "TEXT_MESSAGE_CONTENT", "meanwhile": impatient},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
        {"run": "And now?", "thread": "$thread"},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
        {"run": "Still there?", "thread": "$thread"},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
    )
    assert types(cancelled)[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert cancelled["events"][-1]["code"] == "CANCELLED"
    assert refused(cancelled["meanwhile"]) == (409, "thread_busy")
    assert cancelled["thread"]["lastRunCancelled"] is between["lastRunCancelled"] is True
    assert [message.get("isCancelled") for message in between["messages"]] == [None, True]
    assert types(failed) == ["RUN_STARTED", "RUN_ERROR"]
    assert secret not in str(failed)
    assert after["lastRunError"]["code"] == failed["events"][-1]["code"] == "model_auth_failed"
    assert types(again)[-1] == "RUN_FINISHED", "the id of the failed run is taken as previousRunId"
    assert "lastRunError" not in read
    assert texts(read)[-1] == "Back."


async def test_a_call_that_a_person_has_to_allow_ends_a_run_with_words_about_it(inn: Inn) -> None:
    client = await inn.client()
    gone = ToolCall("delete_project", {"project_id": str(client.project_id)}, id="a")
    inn.model.script(Turn(gone), Turn("It stays."))
    asked, later, read = await client.does(
        {"run": "Delete it all"},
        {"run": "Rather not", "thread": "$thread"},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
    )
    assert (asked["events"][-1]["type"], asked["events"][-1]["code"]) == ("RUN_ERROR", "approval_required")
    assert "/approvals/" in asked["events"][-1]["message"]
    assert texts({"messages": later["thread"]["messages"][-1:]}) == ["It stays."]
    assert read["lastCompletedRunId"] == later["runId"]


async def test_threads_are_made_described_listed_and_deleted(inn: Inn) -> None:
    client = await inn.client()
    made, *_more, page, rest, named, gone, missing, unknown, too_many, strange = await client.does(
        {"sdk": "threads.create", "args": [{"metadata": {"colour": "blue"}}]},
        *({"sdk": "threads.create", "args": [{}]} for _ in range(2)),
        {"sdk": "threads.list", "args": [{"limit": 2}]},
        {"sdk": "threads.list", "args": [{"limit": 2}]},
        {"sdk": "threads.list", "args": [{"limit": 100}]},
        {"sdk": "threads.delete", "args": ["01234567-0000-7000-8000-000000000000"]},
        {"sdk": "threads.retrieve", "args": ["thr_unknown"]},
        {"sdk": "threads.runs.run", "args": ["thr_unknown", {"message": user({"type": "text", "text": "Hello"})}]},
        {"sdk": "threads.list", "args": [{"limit": 101}]},
        {"sdk": "threads.list", "args": [{"cursor": "nonsense"}]},
    )
    assert made["metadata"] == {"colour": "blue"}
    assert (made["runStatus"], "lastCompletedRunId" in made) == ("idle", False)
    assert page == rest
    assert (page["hasMore"], len(page["threads"]), len(named["threads"])) == (True, 2, 3)
    assert [refused(one) for one in (gone, missing, unknown)] == [(404, "thread_not_found")] * 3
    assert [refused(one)[0] for one in (too_many, strange)] == [400, 400]
    last, changed, named, deleted, left = await client.does(
        {"sdk": "threads.list", "args": [{"limit": 2, "cursor": page["nextCursor"]}]},
        {"sdk": "threads.update", "args": [made["id"], {"name": "Blue", "metadata": {"colour": "navy"}}]},
        {"client": "updateThreadName", "args": [made["id"], "Navy"]},
        {"sdk": "threads.delete", "args": [made["id"]]},
        {"sdk": "threads.list"},
    )
    assert [one["id"] for one in last["threads"]] == [made["id"]]
    assert not last["hasMore"]
    assert (changed["name"], changed["metadata"]) == ("Blue", {"colour": "navy"})
    assert named is deleted is None
    assert made["id"] not in {one["id"] for one in left["threads"]}


async def test_what_a_run_is_asked_for_is_done_or_refused(inn: Inn) -> None:
    client = await inn.client()
    hello = user({"type": "text", "text": "Hello"})
    tool = {key: BELL[key] for key in ("name", "description", "inputSchema")}
    inn.model.script(*(Turn(text) for text in ("One.", "Two.", "Three.")))
    inn.model.script(Turn(ToolCall("ring_the_bell", {"times": 1})))
    before = len(inn.model.requests)
    plain, none, _warm, forced, model, unknown, strange = await client.does(
        {"sdk": "threads.runs.create", "args": [{"message": hello, "maxTokens": 12, "temperature": 0.5}]},
        {"sdk": "threads.runs.create", "args": [{"message": hello, "tools": [tool], "toolChoice": "none"}]},
        {"sdk": "threads.runs.create", "args": [{"message": hello, "toolChoice": "auto"}]},
        {
            "sdk": "threads.runs.create",
            "args": [{"message": hello, "tools": [tool], "toolChoice": {"name": tool["name"]}}],
        },
        {"sdk": "threads.runs.create", "args": [{"message": hello, "model": "gpt-5"}]},
        {"sdk": "threads.runs.create", "args": [{"message": hello, "toolChoice": {"name": "nothing"}}]},
        {"sdk": "threads.runs.create", "args": [{"message": hello, "temperature": 3}]},
    )
    bodies = [request.body for request in inn.model.requests[before:]]
    assert plain[-1]["type"] == none[-1]["type"] == "RUN_FINISHED"
    assert (bodies[0]["max_completion_tokens"], bodies[0]["temperature"]) == (12, 0.5)
    assert bodies[1]["tool_choice"] == "none"
    assert bodies[3]["tool_choice"] == {"type": "function", "function": {"name": "ring_the_bell"}}
    assert forced[-2]["name"] == "tambo.run.awaiting_input"
    assert refused(model) == (400, "model_not_chosen_here")
    assert refused(unknown) == (400, "tool_choice_unknown")
    assert refused(strange) == (400, "invalid_arguments")


@pytest.mark.promise("IDN-10", "IDN-21")
async def test_every_kind_of_caller_is_known_by_the_client(inn: Inn) -> None:
    """A server by its key, its users by name; a page's users by their own tokens; an OAuth client by its token."""
    client = await inn.client()
    publishable = await client.publishable()
    async with AuthorizationServer(inn.url, inn.owner, cast("Services", None)).person("Shop") as person:
        program = await AuthorizationServer(inn.url, inn.owner, cast("Services", None)).program()
        granted = await program.tokens(person, asked={"scope": "runs:read runs:write"}, projects=["Shop"])
    visitor, other = [await client.visitor(publishable) for _ in range(2)]
    [exchanged] = await client.does({"sdk": "beta.auth.getToken", "args": [await client.exchange()]}, key=publishable)
    callers: dict[str, Told] = {
        "a secret key": {},
        "its user": {"userKey": "ann"},
        "its other user": {"userKey": "ben"},
        "a page's user": {"key": publishable, "bearer": exchanged["access_token"]},
        "a visitor": {"key": publishable, "bearer": visitor},
        "another visitor": {"key": publishable, "bearer": other},
        "an OAuth client": {"key": granted["access_token"]},
    }
    inn.model.script(*(Turn("Good evening.") for _ in callers))
    talk = ({"run": "Hello"}, {"client": "listThreads"})
    found = await client.does(*({**step, "as": how} for how in callers.values() for step in talk))
    seen = {}
    for name, run, listed in zip(callers, found[::2], found[1::2], strict=True):
        assert texts(run["thread"]) == ["Hello", "Good evening."], name
        seen[name] = {one["id"] for one in listed}
        assert run["threadId"] in seen[name], name
    lone = [name for name in callers if name != "a secret key"]
    assert [len(seen[name]) for name in lone] == [1] * len(lone)
    assert len(set.union(*(seen[name] for name in lone))) == len(lone), "nobody sees a thread of anybody else"
    [theirs] = seen["a visitor"]
    stranger, page = callers["another visitor"], {"key": publishable}
    bearer = {"key": None, "bearer": granted["access_token"]}
    reads, changes, deletes, talks, alone, nobody, unbelieved, by_bearer = await client.does(
        {"client": "fetchThread", "args": [theirs], "as": stranger},
        {"client": "updateThreadName", "args": [theirs, "Mine"], "as": stranger},
        {"sdk": "threads.delete", "args": [theirs], "as": stranger},
        {"run": "Hello", "thread": theirs, "as": stranger},
        {"sdk": "threads.list", "as": stranger},
        {"sdk": "threads.list", "as": page},
        {"sdk": "threads.list", "args": [{"userKey": "ann"}], "as": page},
        # The client itself always wants a key: who has none has the SDK alone.
        {"sdk": "threads.list", "as": bearer},
    )
    assert [refused(one) for one in (reads, changes, deletes)] == [(404, "thread_not_found")] * 3
    assert talks["thrown"]["status"] == 404
    assert {one["id"] for one in alone["threads"]} == seen["another visitor"]
    assert (refused(nobody), refused(unbelieved)) == ((401, "end_user_required"), (403, "user_key_not_believed"))
    assert {one["id"] for one in by_bearer["threads"]} == seen["an OAuth client"]


async def test_a_tool_is_called_no_more_often_than_its_client_allows(inn: Inn) -> None:
    client = await inn.client(tools=[{**BELL, "maxCalls": 1}])
    inn.model.script(Turn(ToolCall("ring_the_bell", {"times": 1})), Turn("Once."), Turn("Again."))
    await client.does({"run": "Ring"}, {"run": "Ring again", "thread": "$thread"})
    offered = ["ring_the_bell" in request.tools for request in inn.model.requests[-3:]]
    assert offered == [True, False, True]


async def test_a_thread_begins_with_what_was_said_before(inn: Inn) -> None:
    client = await inn.client()
    said = [
        {"role": "user", "content": [{"type": "text", "text": "I am Ann."}], "metadata": {"from": "chat"}},
        {"role": "assistant", "content": [{"type": "text", "text": "Welcome."}]},
    ]
    system = {"role": "system", "content": [{"type": "text", "text": "Be rude."}]}
    note = {"type": "resource", "resource": {"mimeType": "text/plain", "text": "Dinner at eight."}}
    inn.model.script(Turn("Ann."))
    new = {"message": {**user({"type": "text", "text": "Who am I?"}, note), "metadata": {"n": 1}}}
    made, refusal, _events, read = await client.does(
        {"sdk": "threads.create", "args": [{"initialMessages": said}]},
        {"sdk": "threads.create", "args": [{"initialMessages": [system]}]},
        {"sdk": "threads.runs.create", "args": [{**new, "thread": {"initialMessages": said, "metadata": {"a": 1}}}]},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
    )
    assert made["runStatus"] == "idle"
    assert refused(refusal) == (403, "system_message_not_allowed")
    assert [message["role"] for message in read["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [message.get("metadata") for message in read["messages"]] == [{"from": "chat"}, None, {"n": 1}, None]
    assert read["messages"][2]["content"][1] == note
    assert read["metadata"] == {"a": 1}
    asked = str(inn.model.requests[-1].body["messages"])
    assert all(words in asked for words in ("I am Ann.", "Welcome.", "Who am I?", "Dinner at eight."))


async def test_a_run_is_read_and_cancelled_on_another_server(inn: Inn) -> None:
    client = await inn.client()
    inn.model.script(Turn("Once ", gate := Gate(), "upon a time", Hang()))
    said = {"message": user({"type": "text", "text": "A story"})}
    headers = {"x-api-key": client.task["key"]}
    async with (
        inn.other_server() as other,
        httpx2.AsyncClient(trust_env=False, headers=headers, timeout=30) as http,
        http.stream("POST", f"{inn.url}/v1/threads/runs", json=said) as first,
    ):
        run = f"{other}/v1/threads/{first.headers['x-thread-id']}/runs/{first.headers['x-run-id']}"
        await gate.reached.wait()
        async with http.stream("GET", f"{run}/events") as second:
            heard = second.aiter_text()
            found = [await anext(heard)]
            gate.open()
            while "upon a time" not in "".join(found):
                found.append(await anext(heard))
            cancelled = await http.delete(run)
            found += [part async for part in heard]
        told = [part async for part in first.aiter_text()]
    assert cancelled.json() == {"runId": run.rpartition("/")[2], "status": "cancelled"}
    assert events("".join(found)) == events("".join(told))
    assert events("".join(found))[-1]["code"] == "CANCELLED"


async def test_an_attachment_is_sent_to_its_place_and_then_named(inn: Inn) -> None:
    client = await inn.client()
    pixel = b"\x89PNG\r\n\x1a\n" + bytes(24)
    [place] = await client.does({"sdk": "storage.presign", "args": [{"contentType": "image/png", "size": len(pixel)}]})
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        sent = await http.put(place["uploadUrl"], content=pixel, headers={"content-type": "image/png"})
    assert sent.is_success, sent.text
    inn.model.script(Turn("A dot."))
    named = {"type": "resource", "resource": {"mimeType": "image/png", "uri": place["attachmentUri"]}}
    said = {"message": user({"type": "text", "text": "What is this?"}, named)}
    told, read = await client.does(
        {"sdk": "threads.runs.create", "args": [said]}, {"sdk": "threads.retrieve", "args": ["$thread"]}
    )
    assert told[-1]["type"] == "RUN_FINISHED"
    assert read["messages"][0]["content"][1] == named
    assert b64encode(pixel).decode() in str(inn.model.requests[-1].body["messages"])
