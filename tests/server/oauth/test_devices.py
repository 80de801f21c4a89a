"""Programs without a browser: the code they show, the page it is typed on, and how they wait."""

from __future__ import annotations

import httpx2
import pytest

from tests.server.oauth.people import DEVICE, Inn, Person, Program, call, hidden, offered

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-10")]


@pytest.fixture
def terminal(inn: Inn) -> Program:
    return Program(inn, "innkeeper-cli")


async def started(terminal: Program, **form: str) -> dict[str, str]:
    answer = await terminal.post("/oauth/device_authorization", **form)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


async def poll(terminal: Program, device_code: str) -> httpx2.Response:
    await terminal.inn.owner.execute("UPDATE oauth_devices SET polled_at = polled_at - interval '1 minute'")
    return await terminal.post("/oauth/token", grant_type=DEVICE, device_code=device_code)


async def typed(person: Person, code: str) -> httpx2.Response:
    page = await person.browser.get("/device")
    return await person.browser.post("/device", data={**hidden(page), "user_code": code})


async def test_a_person_types_the_code_and_the_terminal_gets_its_tokens_once(
    inn: Inn, person: Person, terminal: Program
) -> None:
    device = await started(terminal, scope="projects:read storage:read")
    assert device["verification_uri"] == f"{inn.url}/device"
    assert device["verification_uri_complete"] == f"{inn.url}/device?user_code={device['user_code']}"
    assert (await poll(terminal, device["device_code"])).json()["error"] == "authorization_pending"

    sloppy = device["user_code"].lower().replace("-", " ")
    page = await typed(person, sloppy)
    assert page.status_code == 200
    assert "Innkeeper command line" in page.text
    assert offered(page) == ["projects:read", "storage:read"]
    done = await person.press(page, "allow", projects=["One"])
    assert "Connected" in done.text

    answer = await poll(terminal, device["device_code"])
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert tokens["scope"] == "projects:read storage:read"
    listed = (await call(inn, tokens["access_token"], "list_projects")).json()["result"]["structuredContent"]
    assert [project["name"] for project in listed["projects"]] == ["One"]
    assert (await terminal.refresh(tokens["refresh_token"])).status_code == 200
    assert (await poll(terminal, device["device_code"])).json()["error"] == "invalid_grant"
    assert (await typed(person, sloppy)).status_code == 404


async def test_a_person_turns_a_device_away(person: Person, terminal: Program) -> None:
    device = await started(terminal)
    page = await typed(person, device["user_code"])
    assert "Not connected" in (await person.press(page, "deny")).text
    assert (await poll(terminal, device["device_code"])).json()["error"] == "access_denied"


async def test_who_polls_too_fast_is_slowed_down_each_time(inn: Inn, terminal: Program) -> None:
    device = (await started(terminal))["device_code"]
    assert (await poll(terminal, device)).json()["error"] == "authorization_pending"
    hasty = await terminal.post("/oauth/token", grant_type=DEVICE, device_code=device)
    assert hasty.json()["error"] == "slow_down"
    assert await inn.owner.fetchval("SELECT max(interval_seconds) FROM oauth_devices") == 10
    assert (await poll(terminal, device)).json()["error"] == "authorization_pending"


async def test_a_code_ends_with_its_quarter_of_an_hour(inn: Inn, person: Person, terminal: Program) -> None:
    device = await started(terminal)
    await inn.owner.execute("UPDATE oauth_devices SET expires_at = now()")
    assert (await typed(person, device["user_code"])).status_code == 404
    assert (await poll(terminal, device["device_code"])).json()["error"] == "expired_token"


async def test_an_address_with_the_code_decides_nothing_by_itself(
    inn: Inn, person: Person, stranger: Person, terminal: Program
) -> None:
    device = await started(terminal)
    page = await person.browser.get("/device", params={"user_code": device["user_code"]})
    assert device["user_code"] in page.text
    assert "Innkeeper command line" not in page.text
    assert await inn.owner.fetchval("SELECT state FROM oauth_devices ORDER BY expires_at DESC LIMIT 1") == "pending"
    fields = {**hidden(page), "user_code": device["user_code"], "decision": "allow", "projects": "all"}
    assert (await stranger.browser.post("/device", data=fields)).status_code == 403
    async with inn.browser() as nobody:
        assert (await nobody.get("/device")).status_code == 401
        assert (await nobody.post("/device", data=fields)).status_code == 401
    other = await inn.program(grant_types=["authorization_code"])
    assert (await other.post("/oauth/device_authorization")).json()["error"] == "unauthorized_client"
    mine = await inn.program(grant_types=[DEVICE, "refresh_token"])
    assert (await poll(mine, device["device_code"])).json()["error"] == "invalid_grant"
