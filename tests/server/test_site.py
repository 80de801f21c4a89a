"""The approval pages over HTTP, as a browser without JavaScript uses them, and as others try to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from db import sessions
from db.credentials import Authenticator
from db.database import Database
from db.ids import uuid7
from db.principal import Principal
from server.site.session import COOKIE
from tests.conftest import House, Owner, Tenant
from tests.server.approving import SENDING, csrf, nobody, sending_app, sign_in
from tools.approval import ApprovalRequiredError, Asked
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("MCP-06")


@pytest.fixture
def dispatch(services: Services) -> Dispatch:
    return Dispatch(services, SENDING)


@pytest.fixture
def app(database: Database, authenticator: Authenticator, services: Services) -> Starlette:
    return sending_app(database, authenticator, services)


@pytest_asyncio.fixture
async def browser(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with nobody(app) as browser:
        yield browser


@pytest_asyncio.fixture
async def signed_in(browser: httpx2.AsyncClient, owner: Owner, tenant: Tenant) -> httpx2.AsyncClient:
    await sign_in(browser, owner, tenant.user_id)
    return browser


async def ask(dispatch: Dispatch, caller: Principal, project: Tenant, to: str = "ada") -> Asked:
    with pytest.raises(ApprovalRequiredError) as caught:
        await dispatch.call(caller, "send", {"project_id": str(project.project_id), "to": to})
    return caught.value.asked


async def test_a_link_opens_the_page_once_and_only_when_a_person_presses_the_button(
    browser: httpx2.AsyncClient, dispatch: Dispatch, owner: Owner, tenant: Tenant
) -> None:
    asked = await ask(dispatch, tenant.principal, tenant)
    locked = await browser.get(asked.url)
    assert locked.status_code == 401
    assert f"innkeeper open {asked.id}" in locked.text
    link = await sessions.create_link(owner, tenant.user_id)

    for _ in range(2):
        entrance = await browser.get(asked.url, params={"link": link})
        assert entrance.status_code == 200
        assert "set-cookie" not in entrance.headers
    form = {"link": link, "to": asked.url}
    opened = await browser.post("/sign-in/link", data=form)
    assert (opened.status_code, urlsplit(str(opened.url)).path) == (200, asked.url)
    cookie = opened.history[0].headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/;" in cookie
    assert "Max-Age=3600" in cookie

    browser.cookies.clear()
    used = await browser.post("/sign-in/link", data=form)
    assert used.status_code == 403
    assert "innkeeper open" in used.text


async def test_a_link_that_expired_or_leads_elsewhere_opens_nothing_elsewhere(
    browser: httpx2.AsyncClient, owner: Owner, tenant: Tenant
) -> None:
    link = await sessions.create_link(owner, tenant.user_id)
    for elsewhere in ("https://evil.example", "//evil.example", "/mcp", "/approvals/../mcp"):
        fresh = await sessions.create_link(owner, tenant.user_id)
        opened = await browser.post("/sign-in/link", data={"link": fresh, "to": elsewhere})
        assert opened.history[0].headers["location"] == "/projects"
    await owner.execute("UPDATE credentials SET expires_at = now() - interval '1 second' WHERE kind = 'link'")
    assert (await browser.post("/sign-in/link", data={"link": link, "to": ""})).status_code == 403
    assert (await browser.post("/sign-in/link", data={"link": tenant.token, "to": ""})).status_code == 403


async def test_a_person_allows_takes_back_and_forbids_on_the_page_and_sees_what_came_of_it(
    signed_in: httpx2.AsyncClient, dispatch: Dispatch, owner: Owner, tenant: Tenant
) -> None:
    await owner.execute("UPDATE projects SET name = '<script>alert(1)</script>' WHERE id = $1", tenant.project_id)
    call = {"project_id": str(tenant.project_id)}
    with pytest.raises(ApprovalRequiredError) as caught:
        await dispatch.call(tenant.principal, "delete_project", call)
    url = caught.value.asked.url

    page = await signed_in.get(url)
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert str(tenant.project_id) in page.text
    assert "Allow once" in page.text
    listed = await signed_in.get("/approvals")
    assert url in listed.text
    form = {"csrf": csrf(page)}
    for decision, said in (
        ("deny", "It was not allowed"),
        ("allow", "It is allowed"),
        ("deny", "It was not allowed"),
        ("allow", "It is allowed"),
    ):
        decided = await signed_in.post(url, data={**form, "decision": decision})
        assert decided.status_code == 200
        assert said in decided.text
    await dispatch.call(tenant.principal, "delete_project", call)
    after = await signed_in.get(url)
    assert "has happened" in after.text
    assert 'name="decision"' not in after.text
    assert (await signed_in.post(url, data={**form, "decision": "allow"})).status_code == 409
    assert await owner.fetchval("SELECT state FROM approvals") == "used"


async def test_no_other_page_can_decide_or_sign_in_for_a_person(
    signed_in: httpx2.AsyncClient, dispatch: Dispatch, database: Database, owner: Owner, tenant: Tenant
) -> None:
    asked = await ask(dispatch, tenant.principal, tenant)
    token = csrf(await signed_in.get(asked.url))
    form = {"csrf": token, "decision": "allow"}
    other_port = {"origin": "http://127.0.0.1:1"}

    refusals = [
        await signed_in.post(asked.url, data={"decision": "allow"}),
        await signed_in.post(asked.url, data={**form, "csrf": "0" * 64}),
        await signed_in.post(asked.url, data=form, headers=other_port),
        await signed_in.post(asked.url, data=form, headers={"sec-fetch-site": "same-site"}),
        await signed_in.post(asked.url, data=form, headers={"origin": "null"}),
        await signed_in.post(asked.url, json=form),
        await signed_in.post("/sign-in/link", data={"link": "x", "to": ""}, headers=other_port),
    ]
    assert [refused.status_code for refused in refusals] == [403, 403, 403, 403, 403, 415, 403]
    await sign_in(signed_in, owner, tenant.user_id)
    assert (await signed_in.post(asked.url, data=form)).status_code == 403
    assert await owner.fetchval("SELECT state FROM approvals") == "pending"


async def test_an_address_is_no_permission(
    browser: httpx2.AsyncClient,
    dispatch: Dispatch,
    database: Database,
    owner: Owner,
    house: House,
    tenant: Tenant,
    stranger: Tenant,
) -> None:
    asked = await ask(dispatch, tenant.principal, tenant)
    viewer = await house.member(tenant.project_id, "viewer")

    await sign_in(browser, owner, stranger.user_id)
    assert (await browser.get(asked.url)).status_code == 404
    assert (await browser.get(f"/approvals/{uuid7()}")).status_code == 404
    empty = await browser.get("/approvals")
    assert "Nothing waits" in empty.text
    for decision in ("allow", "deny"):
        tried = await browser.post(asked.url, data={"csrf": csrf(empty), "decision": decision})
        assert tried.status_code == 404

    await sign_in(browser, owner, viewer.user_id)
    seen = await browser.get(asked.url)
    assert "You cannot allow this" in seen.text
    assert "Allow once" not in seen.text
    assert (await browser.post(asked.url, data={"csrf": csrf(seen), "decision": "allow"})).status_code == 403
    assert await owner.fetchval("SELECT state FROM approvals") == "pending"


async def test_a_session_ends_with_signing_out_its_hour_or_its_user_and_is_no_key(
    signed_in: httpx2.AsyncClient, database: Database, owner: Owner, tenant: Tenant
) -> None:
    token = signed_in.cookies[COOKIE]
    called = await signed_in.post(
        "/mcp", json={}, headers={"authorization": f"Bearer {token}", "accept": "application/json"}
    )
    assert called.status_code == 401
    signed_in.cookies.clear()
    signed_in.cookies.set(COOKIE, tenant.token, path="/")
    assert (await signed_in.get("/approvals")).status_code == 401

    signed_in.cookies.clear()
    signed_in.cookies.set(COOKIE, token, path="/")
    page = await signed_in.get("/approvals")
    assert page.status_code == 200
    left = await signed_in.post("/sign-out", data={"csrf": csrf(page)})
    assert left.status_code == 401
    signed_in.cookies.set(COOKIE, token, path="/")
    assert (await signed_in.get("/approvals")).status_code == 401

    for ending in (
        "UPDATE credentials SET expires_at = now() - interval '1 second' WHERE kind = 'session'",
        "UPDATE users SET disabled_at = now()",
    ):
        await sign_in(signed_in, owner, tenant.user_id)
        assert (await signed_in.get("/approvals")).status_code == 200
        await owner.execute(ending)
        assert (await signed_in.get("/approvals")).status_code == 401


async def test_pages_run_nothing_and_are_framed_and_kept_by_nobody(signed_in: httpx2.AsyncClient) -> None:
    page = await signed_in.get("/approvals")
    found = re.search(r'href="(/site/[0-9a-f]+\.css)"', page.text)
    assert found
    style = await signed_in.get(found[1])
    assert style.headers["content-type"].startswith("text/css")
    for path in ("/approvals", f"/approvals/{uuid7()}", "/approvals?link=x"):
        page = await signed_in.get(path)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<script" not in page.text
        assert " style=" not in page.text
