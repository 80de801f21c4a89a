"""Reading a run again, from any of its events, on any process, and what is left of it after a day."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from db.ids import uuid7
from tests.agents.inn import Inn, Stream, body, followed, following, inn, rest, run, running, speaking, until, user
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-02")


def frames(stream: Stream) -> list[bytes]:
    return [frame + b"\n\n" for frame in stream.raw.split(b"\n\n") if frame and not frame.startswith(b":")]


async def test_a_stream_goes_on_from_any_of_its_events_on_any_process_with_the_same_bytes(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("One moment. ", ToolCall("list_projects", {})), Turn("Done."))
    asked = body(user("Look"))
    whole = await run(house_open, tenant.token, asked)
    run_id = whole.headers["innkeeper-run-id"]
    async with inn(urls, model_url=model.base_url) as other:
        for after in range(len(whole.ids)):
            for house in (house_open, other):
                again = await followed(house, tenant.token, run_id, after)
                assert again.status == 200
                assert frames(again) == frames(whole)[after:]
        assert (await followed(other, tenant.token, run_id)).raw == whole.raw
        over = await followed(other, tenant.token, run_id, len(whole.ids))
        assert (over.status, over.raw) == (204, b"")


async def test_several_readers_of_a_live_run_get_the_same_bytes_wherever_they_are_and_whenever_they_come(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    gates = [Gate() for _ in range(3)]
    model.script(Turn("a", gates[0], "b", gates[1], "c", gates[2], "d"))
    async with inn(urls, model_url=model.base_url) as other, AsyncExitStack() as readers:
        first, chunks = await readers.enter_async_context(speaking(house_open, tenant.token, body(user("Hello"))))
        run_id = first.headers["innkeeper-run-id"]
        reading = []
        for number, gate in enumerate(gates):
            for house in (house_open, other):
                stream, response = await readers.enter_async_context(
                    following(house, tenant.token, run_id, number or None)
                )
                reading.append((number, stream, asyncio.create_task(rest(stream, response.aiter_raw()))))
            gate.open()
        await rest(first, chunks)
        for number, stream, task in reading:
            await task
            assert frames(stream) == frames(first)[number:]
    assert first.text == "abcd"


async def test_a_run_that_nobody_reads_goes_on_and_is_found_by_its_id_alone(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    gate = Gate()
    model.script(Turn("Slow", gate, "ly."))
    async with speaking(house_open, tenant.token, body(user("Hello"))) as (stream, _chunks):
        run_id = stream.headers["innkeeper-run-id"]
    shown = await house_open.client.get(
        f"{house_open.url}/runs/{run_id}", headers={"authorization": f"Bearer {tenant.token}"}
    )
    assert (shown.json()["status"], shown.json()["outcome"]) == ("running", None)
    gate.open()
    assert (await followed(house_open, tenant.token, run_id, 2)).text.endswith("ly.")
    ended = await house_open.client.get(
        f"{house_open.url}/runs/{run_id}", headers={"authorization": f"Bearer {tenant.token}"}
    )
    assert (ended.json()["status"], ended.json()["outcome"]) == ("succeeded", {"type": "success"})
    assert ended.json()["usage"]["outputTokens"] == 2


async def test_sending_the_same_input_again_goes_on_behind_the_last_event_too(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    asked = body(user("Hello"))
    whole = await run(house_open, tenant.token, asked)
    headers = {"authorization": f"Bearer {tenant.token}", "last-event-id": "2"}
    again = await house_open.client.post(f"{house_open.url}/agui", json=asked, headers=headers)
    assert again.content == b"".join(frames(whole)[2:])


async def test_a_place_that_the_log_does_not_have_is_410_with_a_snapshot(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Look: ", ToolCall("list_projects", {}, id="call")), Turn("Done."))
    question = user("Look", "question")
    asked = body(question, thread="t", run="r")
    whole = await run(house_open, tenant.token, asked)
    run_id = whole.headers["innkeeper-run-id"]
    beyond = await followed(house_open, tenant.token, run_id, len(whole.ids) + 1)
    assert (beyond.status, beyond.problem["type"]) == (410, "urn:innkeeper:error:events_gone")
    assert f"ends at event {len(whole.ids)}" in beyond.problem["detail"]
    assert (await followed(house_open, tenant.token, run_id, "9" * 30)).status == 410
    snapshot = beyond.problem["snapshot"]
    assert (snapshot["run"]["runId"], snapshot["run"]["status"]) == ("r", "succeeded")
    assert snapshot["run"]["lastEventId"] == len(whole.ids)
    said = [event for event in whole.events if event["type"] == "TEXT_MESSAGE_START"]
    result = next(event for event in whole.events if event["type"] == "TOOL_CALL_RESULT")
    call = {"id": "call", "type": "function", "function": {"name": "list_projects", "arguments": "{}"}}
    assert snapshot["messages"] == [
        question,
        {"id": said[0]["messageId"], "role": "assistant", "content": "Look: ", "toolCalls": [call]},
        {"id": result["messageId"], "role": "tool", "toolCallId": "call", "content": result["content"]},
        {"id": said[1]["messageId"], "role": "assistant", "content": "Done."},
    ]
    await owner.execute("UPDATE runs SET ended_at = now() - interval '25 hours'")
    async with house_open.database.ops() as connection:
        assert await connection.fetchval("SELECT compact_runs(50)") == 1
        assert await connection.fetchval("SELECT compact_runs(50)") == 0
    assert await owner.fetchval("SELECT count(*) FROM run_events") == 0
    assert await owner.fetchval("SELECT count(*) FROM run_steps") == 0
    gone = [await followed(house_open, tenant.token, run_id, after) for after in (None, 2)]
    gone.append(await run(house_open, tenant.token, asked))
    assert [stream.status for stream in gone] == [410, 410, 410]
    assert all("24 hours" in stream.problem["detail"] for stream in gone)
    assert all(stream.problem["snapshot"]["messages"] == snapshot["messages"] for stream in gone)
    onward = await run(house_open, tenant.token, body(user("And now?"), thread="t"))
    assert onward.last["outcome"] == {"type": "success"}
    assert "Done." in str(model.requests[-1].body["messages"])


async def test_the_log_of_a_run_is_kept_for_a_day_after_its_end(house_open: Inn, tenant: Tenant, owner: Owner) -> None:
    stream = await run(house_open, tenant.token, body(user("Hello")))
    await owner.execute("UPDATE runs SET ended_at = now() - interval '23 hours'")
    async with house_open.database.ops() as connection:
        assert await connection.fetchval("SELECT compact_runs(50)") == 0
    assert (await followed(house_open, tenant.token, stream.headers["innkeeper-run-id"])).raw == stream.raw


async def test_who_may_not_read_a_run_cannot_tell_it_from_one_there_never_was(
    house_open: Inn, house: House, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    stream = await run(house_open, tenant.token, body(user("Hello")))
    run_id = stream.headers["innkeeper-run-id"]
    answers = []
    for token, wanted, project in (
        (stranger.token, run_id, None),
        (stranger.token, str(uuid7()), None),
        (stranger.token, run_id, tenant.project_id),
        (stranger.token, run_id, stranger.project_id),
        (stranger.token, "no-id", None),
    ):
        refused = await followed(house_open, token, wanted, project=project)
        refused.problem.pop("request_id", None)
        answers.append((refused.status, refused.problem))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 404
    writer = await house.key(tenant.user_id, scopes=["runs:write"])
    assert (await followed(house_open, writer, run_id)).status == 403
    assert (await followed(house_open, tenant.token, run_id, "two")).status == 400
    await owner.execute("DELETE FROM threads")
    assert (await followed(house_open, tenant.token, run_id)).status == 404


@pytest.mark.promise("RUN-04")
async def test_a_run_is_cancelled_over_http(
    house_open: Inn, house: House, tenant: Tenant, stranger: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("Hm", Hang()))

    async def cancel(token: str, query: str = "") -> int:
        answer = await house_open.client.post(
            f"{house_open.url}/runs/{run_id}/cancel{query}", headers={"authorization": f"Bearer {token}"}
        )
        return answer.status_code

    async with speaking(house_open, tenant.token, body(user("Hello"))) as (stream, chunks):
        run_id = stream.headers["innkeeper-run-id"]
        assert await cancel(stranger.token) == 404
        assert await cancel(await house.key(tenant.user_id, scopes=["runs:read"])) == 403
        assert await cancel(tenant.token, "?read_only=1") == 400
        assert await cancel(tenant.token) == 202
        await rest(stream, chunks)
        assert await cancel(tenant.token) == 200
    assert stream.last["outcome"] == {"type": "cancelled"}


@pytest.mark.promise("RUN-11")
async def test_threads_go_when_their_project_keeps_them_no_longer(
    house_open: Inn, tenant: Tenant, stranger: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Old."), Turn("Recent."), Turn("Other."), Turn("Live", Hang()))
    for token, thread in ((tenant.token, "old"), (tenant.token, "recent"), (stranger.token, "other")):
        await run(house_open, token, body(user("Hello"), thread=thread))
    async with running(house_open, tenant.token, body(user("Hello"), thread="live")) as (stream, response):
        await until(stream, response.aiter_raw(), "TEXT_MESSAGE_CONTENT")
        await owner.execute("UPDATE projects SET retention_days = 30 WHERE id = $1", tenant.project_id)
        await owner.execute("UPDATE threads SET updated_at = now() - interval '31 days' WHERE external_id <> 'recent'")
        await owner.execute("UPDATE runs SET ended_at = now() - interval '31 days' WHERE ended_at IS NOT NULL")
        async with house_open.database.ops() as connection:
            assert await connection.fetchval("SELECT expire_threads(50)") == 1
        left = await owner.fetch("SELECT external_id FROM threads ORDER BY external_id")
        assert [row["external_id"] for row in left] == ["live", "other", "recent"]
        assert await owner.fetchval("SELECT count(*) FROM messages m JOIN runs r ON r.id = m.run_id") == 5
