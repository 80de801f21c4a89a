"""``POST /agui`` over a real socket: AG-UI 1.0 in, AG-UI 1.0 out, Innkeeper's tools in between."""

from __future__ import annotations

from itertools import groupby

import pytest
from ag_ui.core import Event as AGUIEvent
from ag_ui_validate.pytest_plugin import assert_valid_agui
from pydantic import TypeAdapter

from db.ids import uuid7
from tests.agents.conftest import house_open, model
from tests.agents.inn import Inn, body, inn, run, user
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.outside import internet
from tests.fakes.script import Status, ToolCall, Turn

__all__ = ["house_open", "model"]

EVENT = TypeAdapter(AGUIEvent)


@pytest.mark.promise("HOME-20")
async def test_a_run_streams_the_models_text_as_agui_events(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("Good ", "evening."))
    stream = await run(house_open, tenant.token, body(user("Hello"), thread="t", run="r"))
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text == "Good evening."
    assert stream.types[0] == "RUN_STARTED"
    assert stream.types[-1] == "RUN_FINISHED"
    assert stream.events[0]["threadId"] == "t"
    assert stream.last["runId"] == "r"
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.ids == list(range(1, len(stream.ids) + 1))


@pytest.mark.promise("HOME-20")
async def test_the_agent_calls_innkeepers_tools_as_the_caller(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    call = ToolCall("create_project", {"name": "From a run"})
    model.script(Turn("One moment. ", call), Turn("Done."))
    stream = await run(house_open, tenant.token, body(user("Make a project")))
    # How many pieces a text or its arguments come in depends on how fast they are read.
    assert [kind for kind, _ in groupby(stream.types)] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    result = next(event for event in stream.events if event["type"] == "TOOL_CALL_RESULT")
    assert result["toolCallId"] == call.id
    assert "From a run" in result["content"]
    made = await owner.fetchrow("SELECT created_by FROM projects WHERE name = 'From a run'")
    assert made is not None
    assert made["created_by"] == tenant.user_id
    keys = [row["key"] for row in await owner.fetch("SELECT key FROM idempotency")]
    stored = await owner.fetchval("SELECT id FROM runs")
    assert keys == [f"{stored}:1:{call.id}"]


@pytest.mark.promise("MCP-09")
async def test_the_model_of_a_run_reads_what_was_wrong_and_which_tool_helps(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn(ToolCall("get_project", {"project_id": str(uuid7())})), Turn("I see."))
    stream = await run(house_open, tenant.token, body(user("Read my project")))
    assert stream.last["type"] == "RUN_FINISHED"
    [read] = [said["content"] for said in model.requests[1].body["messages"] if said["role"] == "tool"]
    assert "list_projects" in read
    assert "Trying the same call again will not help. [project_not_found]" in read


@pytest.mark.promise("HOME-20", "MCP-04")
async def test_a_key_without_a_scope_gives_an_agent_that_neither_sees_nor_can_call_the_tool(
    house_open: Inn, house: House, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    token = await house.key(tenant.user_id, scopes=["projects:read", "runs:write"])
    model.script(Turn(ToolCall("create_project", {"name": "Sneaked in"})), Turn("I could not."))
    stream = await run(house_open, token, body(user("Make a project")))
    assert stream.last["type"] == "RUN_FINISHED"
    assert {"get_project", "list_projects"} < set(model.requests[0].tools)
    assert "create_project" not in model.requests[0].tools
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'Sneaked in'") == 0
    full = await run(house_open, tenant.token, body(user("Hello")))
    assert full.last["type"] == "RUN_FINISHED"
    assert "create_project" in model.requests[-1].tools


async def test_a_key_may_not_start_runs_without_the_scope(house_open: Inn, house: House, tenant: Tenant) -> None:
    token = await house.key(tenant.user_id, scopes=["projects:read"])
    stream = await run(house_open, token, body(user("Hello")))
    assert stream.status == 403
    assert stream.problem["type"] == "urn:innkeeper:error:insufficient_scope"
    nobody = await run(house_open, "ik_sk_wrong", body(user("Hello")))
    assert nobody.status == 401


@pytest.mark.promise("HOME-20")
async def test_the_projects_settings_reach_the_model(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute(
        "UPDATE projects SET instructions = 'Rhyme.', model_parameters = '{\"temperature\": 0.25}', model = $1,"
        " base_url = $2",
        "openai-chat:their-own",
        model.base_url,
    )
    client_prompt = {"id": "s", "role": "system", "content": "Swear."}
    await run(house_open, tenant.token, body(client_prompt, user("Hello")))
    seen = model.requests[0].body
    assert seen["model"] == "their-own"
    assert seen["temperature"] == 0.25
    system = str([message["content"] for message in seen["messages"] if message["role"] == "system"])
    assert "Rhyme." in system
    assert "Swear." not in str(seen)
    await owner.execute("UPDATE projects SET allow_prompt_override = true")
    await run(house_open, tenant.token, body(client_prompt, user("Hello")))
    assert "Swear." in str(model.requests[1].body)


@pytest.mark.promise("RUN-01")
async def test_what_an_agents_row_says_reaches_the_model_over_what_its_project_says(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute(
        "UPDATE projects SET instructions = 'Rhyme.', model_parameters = '{\"top_p\": 0.5}', base_url = $1",
        model.base_url,
    )
    await owner.execute(
        "INSERT INTO agents (project_id, id, name, instructions, model, model_parameters, tools, limits) VALUES"
        " ($1, $2, 'clerk', 'Count.', 'openai-chat:of-its-own', '{\"temperature\": 0.25}', '{list_projects}', $3)",
        *(tenant.project_id, uuid7(), '{"steps": 2}'),
    )
    model.script(*(Turn(ToolCall("get_project", {"project_id": str(tenant.project_id)})) for _ in range(3)))
    stream = await run(house_open, tenant.token, body(user("Hello")), agent="clerk")
    assert stream.last["code"] == "run_limit_reached"
    assert len(model.requests) == 2
    seen = model.requests[0].body
    assert (seen["model"], seen["temperature"], seen["top_p"]) == ("of-its-own", 0.25, 0.5)
    system = str([message["content"] for message in seen["messages"] if message["role"] == "system"])
    assert "Rhyme." in system
    assert "Count." in system
    assert model.requests[0].tools == ["list_projects"]
    row = await owner.fetchrow("SELECT agent, agent_id FROM runs")
    assert row is not None
    assert row["agent"] == "clerk"
    await owner.execute("DELETE FROM agents WHERE name = 'clerk'")
    assert await owner.fetchval("SELECT agent_id FROM runs") is None


@pytest.mark.promise("GND-01")
async def test_a_run_goes_to_no_base_url_inside(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    inside = model.base_url.replace("127.0.0.1", "inside.example")
    await owner.execute("UPDATE projects SET model = 'openai-chat:m', base_url = $1", inside)
    guard = internet({"inside.example": [["127.0.0.1"]]})
    async with inn(urls, model_url=model.base_url, tenants=guard) as house:
        stream = await run(house, tenant.token, body(user("Hello")))

    assert (stream.last["type"], stream.last["code"]) == ("RUN_ERROR", "url_not_allowed")
    assert "127.0" not in stream.raw.decode()
    assert model.requests == []


async def test_the_project_is_the_named_one_or_the_first_of_the_account(
    house_open: Inn, house: House, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    second = await house.owner.fetchval(
        "INSERT INTO projects (id, name, created_by) VALUES ($1, 'second', $2) RETURNING id", uuid7(), tenant.user_id
    )
    unnamed = await run(house_open, tenant.token, body(user("Hello")))
    assert unnamed.status == 200
    assert await owner.fetchval("SELECT project_id FROM runs") == tenant.project_id
    await owner.execute("DELETE FROM projects WHERE id = $1", stranger.project_id)
    homeless = await run(house_open, stranger.token, body(user("Hello")))
    assert homeless.status == 400
    assert homeless.problem["type"] == "urn:innkeeper:error:project_required"
    assert "create_project" in homeless.problem["hint"]
    by_query = await run(house_open, tenant.token, body(user("Hello")), project=second)
    assert by_query.status == 200
    props = {"innkeeper": {"project": str(tenant.project_id)}}
    by_props = await run(house_open, tenant.token, body(user("Hello"), forwardedProps=props))
    assert by_props.status == 200
    theirs = await run(house_open, tenant.token, body(user("Hello")), project=stranger.project_id)
    assert theirs.status == 404
    bound = await house.key(tenant.user_id, project_id=second)
    assert (await run(house_open, bound, body(user("Hello")))).status == 200
    assert (await run(house_open, bound, body(user("Hello")), project=tenant.project_id)).status == 404
    assert await owner.fetchval("SELECT count(*) FROM runs WHERE project_id = $1", second) == 2


async def test_bodies_that_are_no_run_are_refused_with_what_is_wrong(house_open: Inn, tenant: Tenant) -> None:
    headers = {"authorization": f"Bearer {tenant.token}"}
    for content, word in (
        (b"", "RunAgentInput"),
        (b"[" * 100_000, "RunAgentInput"),
        (b'{"threadId": "t", "messages": []}', "runId"),
        (b'{"threadId": "t", "runId": "", "messages": []}', "runId"),
        (b'{"threadId": "t", "runId": "r", "messages": [{"id":"m","role":"user","content":"a\\u0000b"}]}', "U+0000"),
        (b'{"threadId": "t", "runId": "r", "messages": [{"id":"m","role":"user","content":"\\ud800"}]}', "RunAgent"),
        (b'{"threadId": "t", "runId": "r", "messages": []}', "message"),
        (b'{"threadId": "t", "runId": "r", "messages": [], "forwardedProps": {"innkeeper": 1}}', "innkeeper"),
        (b'{"threadId": "t", "runId": "r", "messages": [], "forwardedProps": {"innkeeper": {"onbusy": 1}}}', "onBusy"),
    ):
        answer = await house_open.client.post(f"{house_open.url}/agui", content=content, headers=headers)
        assert answer.status_code == 400, content[:80]
        assert word in answer.text
    unknown = await house_open.client.post(f"{house_open.url}/agui/nobody", json=body(user("x")), headers=headers)
    assert unknown.status_code == 404


@pytest.mark.promise("HOME-21")
async def test_what_went_wrong_at_the_provider_is_told_in_our_words_only(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Status(400, {"error": {"message": "secret-internal-host says no", "type": "invalid_request_error"}}))
    stream = await run(house_open, tenant.token, body(user("Hello")))
    assert stream.types == ["RUN_STARTED", "RUN_ERROR"]
    assert stream.last["code"] == "model_request_rejected"
    assert b"secret-internal-host" not in stream.raw
    row = await owner.fetchrow("SELECT status, error_code, ended_at FROM runs")
    assert row is not None
    assert (row["status"], row["error_code"]) == ("failed", "model_request_rejected")
    assert row["ended_at"] is not None


@pytest.mark.promise("HOME-04")
async def test_without_any_model_a_run_ends_with_model_not_configured_and_a_hint(
    urls: DatabaseUrls, tenant: Tenant
) -> None:
    async with inn(urls) as house:
        stream = await run(house, tenant.token, body(user("Hello")))
    assert stream.types == ["RUN_STARTED", "RUN_ERROR"]
    assert stream.last["code"] == "model_not_configured"
    assert "OPENAI_API_KEY" in stream.last["message"]


@pytest.mark.promise("HOME-04")
async def test_the_demo_agent_really_calls_its_tools_over_mcp_without_any_model(
    urls: DatabaseUrls, tenant: Tenant, owner: Owner
) -> None:
    async with inn(urls) as house:
        stream = await run(house, tenant.token, body(user("Show me")), agent="demo")
    assert stream.last["outcome"] == {"type": "success"}
    called = [event["toolCallName"] for event in stream.events if event["type"] == "TOOL_CALL_START"]
    assert called == ["create_project", "list_projects"]
    assert "scripted, not a model" in stream.text
    made = await owner.fetchval("SELECT id FROM projects WHERE name = 'Demo project'")
    assert str(made) in stream.text
    assert_valid_agui(stream.events)


@pytest.mark.promise("HOME-04")
async def test_the_demo_agent_says_which_tool_its_key_cannot_see(
    urls: DatabaseUrls, house: House, tenant: Tenant
) -> None:
    token = await house.key(tenant.user_id, scopes=["projects:read", "runs:write"])
    async with inn(urls) as opened:
        stream = await run(opened, token, body(user("Show me")), agent="demo")
    called = [event["toolCallName"] for event in stream.events if event["type"] == "TOOL_CALL_START"]
    assert called == ["list_projects"]
    assert "cannot see create_project" in stream.text
    assert "projects:write" in stream.text


@pytest.mark.promise("HOME-20")
async def test_every_event_is_valid_agui_1_0(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    model.script(
        Turn("Both. ", ToolCall("list_projects", {}), ToolCall("get_project", {"project_id": str(tenant.project_id)})),
        Turn("Here: ", "\N{SNOWMAN} done."),
    )
    text = await run(house_open, tenant.token, body(user("Hello")))
    model.script(Status(500, {"error": {"message": "x"}}), Status(500), Status(500), Status(500))
    failed = await run(house_open, tenant.token, body(user("Hello")))
    for stream in (text, failed):
        for event in stream.events:
            EVENT.validate_python(event)
        assert_valid_agui(stream.events, max_warnings=0)
    assert failed.last["type"] == "RUN_ERROR"
    assert text.types.count("TOOL_CALL_RESULT") == 2
