"""Publishable keys on pages: which origins may use them, and what they are good for there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from db import accounts, end_users
from db.ids import uuid7
from server.app import create_app
from server.limits.newcomers import VISITORS, Newcomers
from tests.server.end_users.issuers import Issuer
from tests.server.end_users.products import EVIL, PAGE, SESSION, House, Product, run_input

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-21")]
ROUTES = ("/agui", "/agui/demo", "/runs/x/events", "/v1/threads", "/storage/presign", "/oauth/token")
SDK_HEADERS = (
    "authorization,content-type,last-event-id,x-api-key,x-stainless-arch,x-stainless-lang,x-stainless-retry-count,"
    "x-tambo-react-version,x-tambo-ts-sdk-version"
)
LOOPBACK = "http://localhost:5173"


def asking(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": SDK_HEADERS,
    }


async def events(http: httpx2.AsyncClient, path: str = "/agui/demo", **how: Any) -> tuple[httpx2.Response, list[Any]]:
    answer = await http.post(path, **{"json": run_input(), **how})
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return answer, [json.loads(line) for line in lines]


async def ann(product: Product) -> str:
    issued = await end_users.issue(
        product.house.services.database, product.publishable, product.project_id, issuer="https://idp.test", name="ann"
    )
    return issued.token


@asynccontextmanager
async def in_production(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(replace(house.services, loopback_pages=False, newcomers=Newcomers(house.services.database)))
    transport = httpx2.ASGITransport(app=app, client=(f"198.51.100.{uuid7().int % 250}", 1))
    async with httpx2.AsyncClient(transport=transport, base_url=house.url) as http:
        yield http


async def test_a_page_that_a_key_lists_may_ask_beforehand_and_send_what_the_sdks_send(product: Product) -> None:
    async with product.house.http() as http:
        for path in ROUTES:
            answer = await http.options(path, headers=asking(PAGE))
            assert answer.status_code == 204, (path, answer.text)
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["access-control-allow-headers"] == SDK_HEADERS
            assert answer.headers["access-control-allow-methods"] == "POST"
            assert "origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers


async def test_a_page_that_no_key_lists_gets_no_preflight_and_no_answer(product: Product) -> None:
    token = await ann(product)
    async with product.house.http() as http:
        for path in ROUTES:
            for origin in (EVIL, PAGE + ".evil.example", "https://sub.shop.example", "http://shop.example", "null"):
                answer = await http.options(path, headers=asking(origin))
                assert answer.status_code == 403, (path, origin)
                assert "access-control-allow-origin" not in answer.headers
                assert answer.headers["vary"] == "origin"
                answer = await http.post(path, headers={"origin": origin, "authorization": f"Bearer {token}"})
                assert answer.status_code == 403, (path, origin)
                assert "access-control-allow-origin" not in answer.headers
        # What is not for pages of products stays closed to those that keys list, too.
        for path in ("/mcp", "/projects", "/oauth/register", "/oauth/revoke", "/runs", "/files-else"):
            assert (await http.options(path, headers=asking(PAGE))).status_code == 403, path


async def test_a_new_key_opens_its_pages_at_once(product: Product) -> None:
    page = f"https://{uuid7().hex}.example"
    async with product.house.http() as http:
        assert (await http.options("/agui", headers=asking(page))).status_code == 403
        await accounts.create_publishable_key(product.house.owner, product.user_id, product.project_id, origins=[page])
        assert (await http.options("/agui", headers=asking(page))).status_code == 204


async def test_an_end_user_talks_to_an_agent_from_a_page_of_their_key(product: Product) -> None:
    headers = {"authorization": f"Bearer {await ann(product)}", "x-api-key": product.publishable}
    sent = run_input("the talk of ann", runId="läuft 1%")
    async with product.house.http(PAGE, **headers) as http:
        answer, said = await events(http, json=sent)
        assert answer.status_code == 200, answer.text
        assert said[0]["type"] == "RUN_STARTED"
        assert said[-1]["type"] == "RUN_FINISHED"
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers
        exposed = answer.headers["access-control-expose-headers"]
        assert {"x-thread-id", "x-run-id", "innkeeper-run-id"} <= set(exposed.split(", "))
        assert answer.headers["x-thread-id"] == "the%20talk%20of%20ann"
        assert answer.headers["x-run-id"] == "l%C3%A4uft%201%25"
        run_id = answer.headers["innkeeper-run-id"]
        shown = await http.get(f"/runs/{run_id}")
        assert shown.json()["status"] == "succeeded"
        assert shown.headers["access-control-allow-origin"] == PAGE
        again = await http.get(f"/runs/{run_id}/events", headers={"last-event-id": "1"})
        assert again.status_code == 200
        assert again.headers["x-thread-id"] == answer.headers["x-thread-id"]


async def test_one_project_gains_nothing_by_the_pages_that_another_one_lists(house: House, product: Product) -> None:
    theirs = await Product.made(house, (EVIL,))
    token = await ann(product)
    async with house.http(EVIL) as http:
        for headers in (
            {"authorization": f"Bearer {token}"},
            {"authorization": f"Bearer {token}", "x-api-key": product.publishable},
        ):
            answer = await http.post("/agui/demo", json=run_input(), headers=headers)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "origin_not_allowed")
        mixed = {"authorization": f"Bearer {token}", "x-api-key": theirs.publishable}
        assert (await http.post("/agui/demo", json=run_input(), headers=mixed)).status_code == 401
        secret = {"authorization": f"Bearer {product.secret}"}
        assert (await http.post("/agui/demo", json=run_input(), headers=secret)).status_code == 403
    for answer in (await product.exchange("x", origin=EVIL), await product.visitor(EVIL)):
        assert (answer.status_code, answer.json()["error"]) == (403, "unauthorized_client")
        assert "origin" in answer.json()["error_description"]
    answer = await product.exchange("x", origin=PAGE, key=product.secret)
    assert answer.status_code == 403
    async with house.http(PAGE) as http:
        other_grant = await http.post("/oauth/token", data={"grant_type": "refresh_token", "client_id": "x"})
        assert other_grant.status_code == 403


async def test_a_token_that_a_server_exchanged_is_used_on_the_pages_of_a_key_beside_it(product: Product) -> None:
    issued = await end_users.issue(
        product.house.services.database, product.secret, product.project_id, issuer="", name="ann"
    )
    bearer = {"authorization": f"Bearer {issued.token}"}
    async with product.house.http(PAGE, **bearer) as http:
        assert (await http.post("/agui/demo", json=run_input())).status_code == 403
        answer, said = await events(http, headers={"x-api-key": product.publishable})
        assert said[-1]["type"] == "RUN_FINISHED", answer.text
    async with product.house.http(**bearer) as http:
        assert (await events(http))[0].status_code == 200
        assert (await events(http, headers={"x-api-key": product.secret}))[0].status_code == 200


async def test_pages_on_the_developers_computer_may_use_every_key_in_development_alone(
    house: House, product: Product
) -> None:
    token = await ann(product)
    listed = await Product.made(house, (LOOPBACK,))
    for origin in (LOOPBACK, "http://127.0.0.1:3000", "http://[::1]:8080", "https://localhost"):
        assert (await product.visitor(origin)).status_code == 200, origin
        async with house.http(origin, authorization=f"Bearer {token}") as http:
            assert (await events(http))[0].status_code == 200
    assert (await product.visitor("http://localhost.evil.example")).status_code == 403
    async with in_production(house) as http:
        headers = {"origin": LOOPBACK, "authorization": f"Bearer {token}"}
        assert (await http.post("/agui/demo", json=run_input(), headers=headers)).status_code == 403
        for key, status in ((product.publishable, 403), (listed.publishable, 200)):
            answer = await http.post(
                "/oauth/token",
                data={"grant_type": "urn:innkeeper:params:oauth:grant-type:anonymous", "client_id": key},
                headers={"origin": LOOPBACK},
            )
            assert answer.status_code == status, answer.text


async def test_a_publishable_key_alone_does_nothing_and_sees_nothing(product: Product) -> None:
    for headers in (
        {"authorization": f"Bearer {product.publishable}"},
        {"x-api-key": product.publishable},
        {"x-api-key": product.publishable, "authorization": f"Bearer {product.publishable}"},
    ):
        async with product.house.http(PAGE, **headers) as http:
            for method, path in (("POST", "/agui"), ("GET", f"/runs/{uuid7()}"), ("POST", "/storage/presign")):
                answer = await http.request(method, path, json={} if method == "POST" else None)
                assert answer.status_code == 401, (path, answer.text)
                assert answer.json()["type"].endswith("end_user_required")
        async with product.house.http(**headers) as http:
            listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await http.post("/mcp", json=listing)).status_code == 401
            assert (await http.get("/mcp/preview/list_projects")).status_code in (401, 404)
            assert (await http.post("/oauth/introspect", data={"token": "x"})).status_code in (400, 401)


async def test_an_end_users_own_token_calls_no_tools(product: Product) -> None:
    async with product.house.http(authorization=f"Bearer {await ann(product)}") as http:
        for _ in range(2):
            answer = await http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            assert answer.status_code == 403, answer.text
            assert "not_for_end_users" in answer.text


async def test_a_visitor_without_a_name_keeps_their_threads_by_their_session(product: Product) -> None:
    begun = (await product.visitor()).json()
    assert begun["expires_in"] == 3600
    assert begun["token_type"] == "Bearer"
    next_one = await product.exchange(begun["refresh_token"], subject_token_type=SESSION)
    assert next_one.status_code == 200, next_one.text
    authenticate = product.house.services.authenticator.authenticate
    first, second = await authenticate(begun["access_token"]), await authenticate(next_one.json()["access_token"])
    assert first == second
    other = await authenticate((await product.visitor()).json()["access_token"])
    assert first is not None
    assert other is not None
    assert other.end_user_id != first.end_user_id
    for session in ("ik_as_nothing", begun["access_token"], begun["refresh_token"][:-1] + "_"):
        answer = await product.exchange(session, subject_token_type=SESSION)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_sessions_without_a_name_are_for_listed_pages_and_can_be_switched_off(
    product: Product, other: Product
) -> None:
    assert (await product.visitor(None)).status_code == 403
    assert (await product.visitor(PAGE, product.secret)).status_code == 403
    begun = (await product.visitor()).json()
    stolen = await other.exchange(begun["refresh_token"], subject_token_type=SESSION)
    assert stolen.json()["error"] == "invalid_request"
    await product.allow("anonymous_sessions", value=False)
    assert (await product.visitor()).json()["error"] == "unauthorized_client"
    resumed = await product.exchange(begun["refresh_token"], subject_token_type=SESSION)
    assert resumed.json()["error"] == "unauthorized_client"


async def test_sessions_without_a_name_are_limited_by_address(house: House, product: Product) -> None:
    form = {"grant_type": "urn:innkeeper:params:oauth:grant-type:anonymous", "client_id": product.publishable}
    async with in_production(house) as http:
        page = {"origin": PAGE}
        statuses = [(answer := await http.post("/oauth/token", data=form, headers=page)).status_code]
        while statuses[-1] != 429 and len(statuses) < 100:
            answer = await http.post("/oauth/token", data=form, headers=page)
            statuses.append(answer.status_code)
        assert VISITORS.burst - 10 <= statuses.index(429) < VISITORS.burst + 30
        assert answer.json()["error"] == "slow_down"
        assert "retry-after" in answer.headers


async def test_a_bare_user_key_needs_a_secret_key_or_the_projects_switch(product: Product) -> None:
    database = product.house.services.database
    named: dict[str, Any] = {"forwardedProps": {"userKey": "u1"}}
    async with product.house.http(PAGE, **{"x-api-key": product.publishable}) as http:
        for how in ({"json": run_input(**named)}, {"json": run_input(userKey="u1")}, {"params": {"userKey": "u1"}}):
            answer, _ = await events(http, **how)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "user_key_not_believed")
    async with product.house.http(**{"x-api-key": product.secret}) as http:
        answer, said = await events(http, json=run_input("by server", **named))
        assert said[-1]["type"] == "RUN_FINISHED", answer.text
        run_id = answer.headers["innkeeper-run-id"]
        assert (await http.get(f"/runs/{run_id}", params={"userKey": "u1"})).status_code == 200
        assert (await http.get(f"/runs/{run_id}", params={"userKey": "u2"})).status_code == 404
        assert (await http.get(f"/runs/{run_id}")).status_code == 200
        for wrong in ("", "x" * 256, "a\nb"):
            assert (await http.get(f"/runs/{run_id}", params={"userKey": wrong})).status_code == 400
    await product.allow("user_keys_from_browsers", value=True)
    async with product.house.http(PAGE, **{"x-api-key": product.publishable}) as http:
        answer, said = await events(http, json=run_input("by page", **named))
        assert said[-1]["type"] == "RUN_FINISHED", answer.text
        # Who says so in a browser is not whom the product's own server means by that name.
        assert (await http.get(f"/runs/{run_id}", params={"userKey": "u1"})).status_code == 404
    async with product.house.http(EVIL, **{"x-api-key": product.publishable}) as http:
        assert (await events(http, json=run_input(**named)))[0].status_code == 403
    async with product.house.http(authorization=f"Bearer {await ann(product)}") as http:
        assert (await events(http, json=run_input(**named)))[0].status_code == 400
    assert await end_users.is_known_origin(database, PAGE)


async def test_end_users_of_one_project_do_not_see_each_others_runs_and_files(
    product: Product, other: Product, issuer: Issuer
) -> None:
    await product.trust_issuer(issuer)
    await other.trust_issuer(issuer)
    tokens = [await product.token(issuer.token(sub=name)) for name in ("ann", "ben")]
    tokens.append(await other.token(issuer.token(sub="ann")))
    runs = []
    for token in tokens:
        async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
            answer, said = await events(http, json=run_input("the same name"))
            assert said[-1]["type"] == "RUN_FINISHED", answer.text
            runs.append(answer.headers["innkeeper-run-id"])
            place = await http.post("/storage/presign", json={"contentType": "text/plain", "size": 3})
            assert place.status_code == 200, place.text
    threads = "SELECT count(*) FROM threads WHERE external_id = 'the same name' AND end_user_id IS NOT NULL"
    assert await product.house.owner.fetchval(threads) >= 3
    for number, token in enumerate(tokens):
        async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
            for run_number, run_id in enumerate(runs):
                for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
                    answer = await http.request(method, f"/runs/{run_id}{path}")
                    assert (answer.status_code < 300) == (number == run_number), (number, run_number, path)
            elsewhere = await http.post("/agui/demo", params={"project": str(uuid7())}, json=run_input())
            assert elsewhere.status_code == 404
    files = await product.house.owner.fetch("SELECT end_user_id FROM files WHERE project_id = $1", product.project_id)
    assert len({row["end_user_id"] for row in files}) == 2
    assert None not in {row["end_user_id"] for row in files}


async def test_revoking_a_key_ends_what_its_end_users_do_at_once(product: Product) -> None:
    token = await ann(product)
    async with product.house.http(PAGE, authorization=f"Bearer {token}") as http:
        assert (await events(http))[0].status_code == 200
        await accounts.revoke_key(product.house.owner, str(product.publishable_id))
        while (await http.post("/agui/demo", json=run_input())).status_code == 200:
            pass
        for path in ("/agui/demo", "/v1/threads/runs"):
            answer = await http.post(path, json=run_input())
            assert answer.status_code == 401
            assert "'Authorization: Bearer <" in answer.json()["hint"]
            assert "'x-api-key: <" in answer.json()["hint"]
    assert (await product.visitor()).status_code == 401
