"""``/v1`` for the users of a product: who may call it, from which pages, and whose threads they see."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from db import accounts, end_users
from db.ids import uuid7
from tests.server.end_users.products import EVIL, PAGE, House, Product

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-21")]
DEMO = {"agent": "demo"}
HELLO = {"message": {"role": "user", "content": [{"type": "text", "text": "Hello"}]}}
SDK_HEADERS = "x-api-key,x-tambo-ts-sdk-version,x-stainless-lang,x-stainless-retry-count,last-event-id,authorization"


async def token_of(product: Product, name: str) -> str:
    issued = await end_users.issue(
        product.house.services.database, product.publishable, product.project_id, issuer="https://idp.test", name=name
    )
    return issued.token


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def told(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


async def begun(http: httpx2.AsyncClient, **how: Any) -> str:
    """A thread with one run, as its own first event names it."""
    answer = await http.post("/v1/threads/runs", **{"params": DEMO, "json": HELLO, **how})
    events = told(answer)
    assert events[-1]["type"] == "RUN_FINISHED"
    assert answer.headers["x-thread-id"] == events[0]["threadId"]
    assert answer.headers["x-run-id"] == events[0]["runId"]
    return str(answer.headers["x-thread-id"])


async def everything(http: httpx2.AsyncClient, thread: str, **query: str) -> list[httpx2.Response]:
    """Every way to do something to a thread; the one that deletes it comes last."""
    params = {**DEMO, **query}
    at = f"/v1/threads/{thread}"
    return [
        await http.get(at, params=params),
        await http.get(f"{at}/messages", params=params),
        await http.get(f"{at}/messages/{uuid7()}", params=params),
        await http.post(f"{at}/runs", params=params, json=HELLO),
        await http.delete(f"{at}/runs/{uuid7()}", params=params),
        await http.post(f"{at}/components/{uuid7()}/state", params=params, json={"state": {}}),
        await http.patch(at, params=params, json={"name": "Mine"}),
        await http.delete(at, params=params),
    ]


async def test_a_page_that_a_key_lists_calls_v1_and_reads_its_headers(product: Product) -> None:
    headers = {"authorization": f"Bearer {await token_of(product, 'ann')}", "x-api-key": product.publishable}
    async with product.house.http(PAGE, **headers) as http:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            asking = {"access-control-request-method": method, "access-control-request-headers": SDK_HEADERS}
            allowed = await http.options(f"/v1/threads/{uuid7()}", headers=asking)
            assert (allowed.status_code, allowed.headers["access-control-allow-methods"]) == (204, method)
            assert allowed.headers["access-control-allow-headers"] == SDK_HEADERS
            assert "access-control-allow-credentials" not in allowed.headers
        answer = await http.post("/v1/threads/runs", params=DEMO, json=HELLO)
        assert told(answer)[-1]["type"] == "RUN_FINISHED"
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert {"x-thread-id", "x-run-id"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert "set-cookie" not in answer.headers
    async with product.house.http(EVIL, **headers) as http:
        refused = await http.options("/v1/threads", headers={"access-control-request-method": "GET"})
        assert refused.status_code == 403
        assert refusal(await http.get("/v1/threads")) == (403, "origin_not_allowed")


async def test_an_end_user_sees_and_changes_their_own_threads_alone(product: Product, other: Product) -> None:
    tokens = [await token_of(product, "ann"), await token_of(product, "ben"), await token_of(other, "ann")]
    visitor = (await product.visitor()).json()["access_token"]
    threads = {}
    for token in (*tokens, visitor):
        async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
            threads[token] = await begun(http)
    for token, own in threads.items():
        async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
            assert [one["id"] for one in (await http.get("/v1/threads")).json()["threads"]] == [own]
            for foreign in set(threads.values()) - {own}:
                found = [refusal(answer) for answer in await everything(http, foreign)]
                assert found == [(404, "thread_not_found")] * len(found)
    for token, own in threads.items():
        async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
            statuses = [answer.status_code for answer in await everything(http, own)]
            assert statuses == [200, 200, 404, 400, 404, 404, 200, 204], "the run does not name the one before"
            assert (await http.get("/v1/threads")).json() == {"threads": [], "hasMore": False}
    logged = await product.house.owner.fetch("SELECT target FROM audit WHERE action = 'delete_thread'")
    assert set(threads.values()) <= {row["target"] for row in logged}


async def test_a_run_is_read_again_from_any_of_its_events_by_its_own_user_alone(product: Product) -> None:
    async with product.house.http(PAGE, authorization=f"Bearer {await token_of(product, 'ann')}") as http:
        first = await http.post("/v1/threads/runs", params=DEMO, json=HELLO)
        path = f"/v1/threads/{first.headers['x-thread-id']}/runs/{first.headers['x-run-id']}/events"
        again = await http.get(path)
        assert again.text == first.text
        ids = [line[4:] for line in first.text.splitlines() if line.startswith("id: ")]
        rest = await http.get(path, headers={"last-event-id": ids[1]})
        assert rest.text
        assert first.text.endswith(rest.text)
        assert first.text.count("id: ") - rest.text.count("id: ") == 2
        assert (await http.get(path, headers={"last-event-id": ids[-1]})).status_code == 204
        assert refusal(await http.get(path, headers={"last-event-id": "999"})) == (410, "events_gone")
        assert (await http.delete(path.removesuffix("/events"))).json()["status"] == "cancelled"
    async with product.house.http(PAGE, authorization=f"Bearer {await token_of(product, 'ben')}") as http:
        assert refusal(await http.get(path)) == (404, "thread_not_found")


async def test_a_publishable_key_alone_opens_nothing_of_v1(product: Product) -> None:
    for headers in ({"x-api-key": product.publishable}, {"authorization": f"Bearer {product.publishable}"}):
        async with product.house.http(PAGE, **headers) as http:
            for answer in (
                await http.get("/v1/threads"),
                await http.post("/v1/threads", json={}),
                await http.post("/v1/threads/runs", params=DEMO, json=HELLO),
                *await everything(http, str(uuid7())),
            ):
                assert refusal(answer) == (401, "end_user_required")
                assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_user_key_needs_a_secret_key_or_the_projects_switch_on_v1_too(product: Product) -> None:
    ways: list[dict[str, Any]] = [
        {"json": {**HELLO, "userKey": "u1"}},
        {"json": {**HELLO, "thread": {"userKey": "u1"}}},
        {"json": HELLO, "params": {**DEMO, "userKey": "u1"}},
    ]
    async with product.house.http(PAGE, **{"x-api-key": product.publishable}) as http:
        for how in ways:
            answer = await http.post("/v1/threads/runs", **{"params": DEMO, **how})
            assert refusal(answer) == (403, "user_key_not_believed")
        assert refusal(await http.get("/v1/threads", params={"userKey": "u1"})) == (403, "user_key_not_believed")
    async with product.house.http(**{"x-api-key": product.secret}) as http:
        made = {await begun(http, **how) for how in ways}
        mine = (await http.get("/v1/threads", params={"userKey": "u1"})).json()["threads"]
        assert {one["id"] for one in mine} == made
        assert {one["userKey"] for one in mine} == {"u1"}
        for other in ("u2", "u" * 300, "", 7):
            two = await http.post(
                "/v1/threads/runs", params={**DEMO, "userKey": "u1"}, json={**HELLO, "userKey": other}
            )
            assert refusal(two) == (400, "invalid_arguments")
        assert (await http.get("/v1/threads", params={"userKey": "u2"})).json()["threads"] == []
        own = await begun(http)
        assert {one["id"] for one in (await http.get("/v1/threads")).json()["threads"]} == {*made, own}
        thread = made.pop()
        assert all(refusal(one) == (404, "thread_not_found") for one in await everything(http, thread, userKey="u2"))
        # Without a name it acts for the project: it sees every thread, and talks in none of its users'.
        answer = await http.post(f"/v1/threads/{thread}/runs", params=DEMO, json=HELLO)
        assert refusal(answer) == (400, "user_key_required")
        assert (await http.get(f"/v1/threads/{thread}")).json()["userKey"] == "u1"
    await product.allow("user_keys_from_browsers", value=True)
    async with product.house.http(PAGE, **{"x-api-key": product.publishable}) as http:
        assert (await http.get("/v1/threads", params={"userKey": "u1"})).json()["threads"] == []
        assert await begun(http, json={**HELLO, "userKey": "u1"})


async def test_schemas_of_older_libraries_are_understood(product: Product) -> None:
    place = {"type": "array", "items": [{"type": "number"}, {"type": "number"}], "additionalItems": False}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"place": place, "items": {"$ref": "#/definitions/name"}},
        "definitions": {"name": {"type": "string"}},
    }
    offer = {"name": "Map", "description": "", "propsSchema": schema, "stateSchema": schema}
    async with product.house.http(**{"x-api-key": product.secret}) as http:
        assert await begun(http, json={**HELLO, "availableComponents": [offer]})


async def test_what_is_no_request_of_v1_is_refused_with_what_is_wrong(product: Product) -> None:
    text = {"type": "text", "text": "Hello"}
    offer = {"name": "not a name", "description": "", "propsSchema": {}}
    async with product.house.http(**{"x-api-key": product.secret}) as http:
        thread = f"/v1/threads/{await begun(http)}"
        runs: list[tuple[dict[str, Any], str]] = [
            ({"content": [text], "tools": [{"name": "not a name"}]}, "tools.0.name"),
            ({"content": [text], "availableComponents": [offer]}, "availableComponents.0.name"),
            ({"content": [text], "thread": {"metadata": {"a": "\x00"}}}, "U+0000"),
            ({"content": [text], "thread": {"metadata": {"a": "x" * 70_000}}}, "65536 bytes"),
            ({"content": [{"type": "resource", "resource": {}}]}, "neither text, blob nor uri"),
            ({"content": [{"type": "resource", "resource": {"uri": "https://x.example/a.png"}}]}, "not read here"),
            ({"content": [{"type": "image"}]}, "content.0"),
            ({"content": []}, "content"),
        ]
        for said, why in runs:
            body = {**said, "message": {"role": "user", "content": said["content"]}}
            answer = await http.post("/v1/threads/runs", params=DEMO, json=body)
            assert answer.status_code == 400, (said, answer.text)
            assert why in answer.json()["detail"], answer.text
        for name in ("\x00", "nobody"):
            answer = await http.post("/v1/threads/runs", params={"agent": name}, json=HELLO)
            assert refusal(answer) == (404, "agent_not_found")
        changes: list[Any] = [{"name": "a\x00"}, {"name": ""}, {"metadata": []}, []]
        for change in changes:
            assert refusal(await http.patch(thread, json=change)) == (400, "invalid_arguments")
        for query in ({"limit": "0"}, {"limit": "101"}, {"order": "up"}, {"cursor": "x"}):
            assert (await http.get(f"{thread}/messages", params=query)).status_code == 400
        assert (await http.post("/v1/threads", content=b"[" * 5000)).status_code == 400
        assert (await http.get("/v1/threads/runs")).headers["allow"] == "POST"
        assert len((await http.get("/v1/threads")).json()["threads"]) == 1, "nothing was begun"


async def test_what_scopes_and_read_only_keys_leave_undone(house: House, product: Product) -> None:
    async with product.house.http(**{"x-api-key": product.secret}) as http:
        thread = await begun(http)
        reads = [await http.get(path, params={"read_only": "1"}) for path in ("/v1/threads", f"/v1/threads/{thread}")]
        assert [answer.status_code for answer in reads] == [200, 200]
        for answer in (
            await http.post("/v1/threads", params={"read_only": "1"}, json={}),
            await http.post("/v1/threads/runs", params={"read_only": "1"}, json=HELLO),
            await http.patch(f"/v1/threads/{thread}", params={"read_only": "1"}, json={"name": "x"}),
            await http.delete(f"/v1/threads/{thread}", params={"read_only": "1"}),
        ):
            assert refusal(answer) == (403, "insufficient_scope")
    key = await narrow_key(product, ["storage:read"])
    async with house.http(**{"x-api-key": key}) as http:
        answers = [
            await http.get("/v1/threads"),
            await http.post("/v1/threads", json={}),
            *await everything(http, thread),
        ]
        assert {refusal(answer) for answer in answers} == {(403, "insufficient_scope")}


async def narrow_key(product: Product, scopes: list[str]) -> str:
    owner = product.house.owner
    return (await accounts.create_key(owner, product.user_id, project_id=product.project_id, scopes=scopes))[1]
