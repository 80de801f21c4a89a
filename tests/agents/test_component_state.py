"""What users make of components between runs: whole or by patch, under the thread's lock, seen by the model."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.agents.inn import Inn, body, rest, run, speaking, user
from tests.agents.test_components import offering, shown, weather
from tests.conftest import House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Turn

pytestmark = pytest.mark.promise("RUN-07")


async def showing(house: Inn, tenant: Tenant, model: ScriptedModel) -> str:
    """The id of a component that was shown in thread ``t``."""
    model.script(Turn(weather()), Turn("There."))
    stream = await run(house, tenant.token, body(user("Weather?"), thread="t", **offering()))
    [component_id] = shown(stream)
    return component_id


async def write(
    house: Inn, token: str, component_id: str, asked: Any, thread: str = "t", **params: str
) -> httpx2.Response:
    return await house.client.post(
        f"{house.url}/threads/{thread}/components/{component_id}/state",
        params=params,
        json=asked,
        headers={"authorization": f"Bearer {token}"},
    )


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:innkeeper:error:")


@pytest.mark.promise("RUN-01")
async def test_state_is_written_whole_or_by_patch_and_the_model_sees_it_in_the_next_run(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    component_id = await showing(house_open, tenant, model)
    whole = await write(house_open, tenant.token, component_id, {"state": {"open": False, "note": "Ada"}})
    assert (whole.status_code, whole.json()) == (200, {"state": {"open": False, "note": "Ada"}})
    patch = [{"op": "replace", "path": "/open", "value": True}, {"op": "remove", "path": "/note"}]
    thread_id = await owner.fetchval("SELECT id FROM threads")
    patched = await write(house_open, tenant.token, component_id, {"patch": patch}, thread=str(thread_id))
    assert patched.json() == {"state": {"open": True}}
    await run(house_open, tenant.token, body(user("And now?"), thread="t"))
    [told] = [message["content"] for message in model.requests[-1].body["messages"] if message["role"] == "tool"]
    assert told == 'The user sees it now. Its state is now: {"open": true}'
    snapshot = await house_open.client.get(
        f"{house_open.url}/runs/{await owner.fetchval('SELECT id FROM runs LIMIT 1')}/events",
        headers={"authorization": f"Bearer {tenant.token}", "last-event-id": "999"},
    )
    assert snapshot.status_code == 410
    messages = snapshot.json()["snapshot"]["messages"]
    [activity] = [message for message in messages if message["role"] == "activity"]
    assert activity["id"] == component_id
    assert activity["content"]["state"] == {"open": True}
    assert (activity["content"]["status"], activity["content"]["props"]["place"]) == ("done", "Paris")


async def test_a_state_that_does_not_fit_changes_nothing(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    component_id = await showing(house_open, tenant, model)
    await write(house_open, tenant.token, component_id, {"state": {"open": True}})
    large = {"list": ["x" * 1000]}
    double = [{"op": "add", "path": "/a", "value": large}]
    double += [{"op": "copy", "from": "/a", "path": "/a/list/-"}] * 40
    for asked, expected in (
        ({"state": {"open": "yes"}}, (422, "state_invalid")),
        ({"state": [1]}, (400, "state_invalid")),
        ({"state": {"a": "x" * 70_000}}, (413, "state_too_large")),
        ({"state": {"a": "\x00"}}, (400, "invalid_arguments")),
        ({"patch": [{"op": "replace", "path": "/open", "value": 1}]}, (422, "state_invalid")),
        ({"patch": [{"op": "remove", "path": "/none"}]}, (400, "patch_invalid")),
        ({"patch": [{"op": "test", "path": "/open", "value": False}]}, (400, "patch_invalid")),
        ({"patch": ["remove"]}, (400, "patch_invalid")),
        ({"patch": [{"op": "grow", "path": "/open"}]}, (400, "patch_invalid")),
        ({"patch": {"open": True}}, (400, "patch_invalid")),
        ({"patch": double}, (413, "state_too_large")),
        ({"state": {}, "patch": []}, (400, "invalid_arguments")),
        ({}, (400, "invalid_arguments")),
        ([], (400, "invalid_arguments")),
    ):
        assert code(await write(house_open, tenant.token, component_id, asked)) == expected, asked
    same = await write(house_open, tenant.token, component_id, {"patch": []})
    assert same.json() == {"state": {"open": True}}


async def test_a_state_is_written_between_runs_only(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    component_id = await showing(house_open, tenant, model)
    gate = Gate()
    model.script(Turn("Hm", gate, "."))
    async with speaking(house_open, tenant.token, body(user("Hello"), thread="t")) as (stream, chunks):
        busy = await write(house_open, tenant.token, component_id, {"state": {}})
        assert code(busy) == (409, "thread_busy")
        gate.open()
        await rest(stream, chunks)
    assert (await write(house_open, tenant.token, component_id, {"state": {}})).status_code == 200


async def test_patches_at_once_lose_none(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    component_id = await showing(house_open, tenant, model)
    await write(house_open, tenant.token, component_id, {"state": {"list": []}})
    patches = [{"patch": [{"op": "add", "path": "/list/-", "value": number}]} for number in range(12)]
    answers = await asyncio.gather(*(write(house_open, tenant.token, component_id, patch) for patch in patches))
    assert {answer.status_code for answer in answers} == {200}
    last = await write(house_open, tenant.token, component_id, {"patch": []})
    assert sorted(last.json()["state"]["list"]) == list(range(12))


async def test_a_component_is_found_by_who_may_see_it_in_its_own_thread(
    house_open: Inn, house: House, tenant: Tenant, stranger: Tenant, model: ScriptedModel
) -> None:
    component_id = await showing(house_open, tenant, model)
    await run(house_open, tenant.token, body(user("Hello"), thread="other"))
    for token, name, thread in (
        (stranger.token, component_id, "t"),
        (tenant.token, str(uuid4()), "t"),
        (tenant.token, "no id", "t"),
        (tenant.token, component_id, "other"),
        (tenant.token, component_id, "%00"),
    ):
        assert code(await write(house_open, token, name, {"state": {}}, thread=thread)) == (404, "component_not_found")
    viewer = await house.member(tenant.project_id, "viewer")
    reading = await house.key(viewer.user_id, project_id=tenant.project_id)
    assert code(await write(house_open, reading, component_id, {"state": {}})) == (403, "role_insufficient")
    narrowed = await write(house_open, tenant.token, component_id, {"state": {}}, read_only="1")
    assert narrowed.status_code == 403
    assert json.loads((await write(house_open, tenant.token, component_id, {"patch": []})).text) == {"state": {}}
