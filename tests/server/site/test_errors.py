"""What a person in front of a browser is told when something is wrong, and that programs are told it their way."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from db.ids import uuid7
from server.http.front_door import FrontDoor
from server.metrics import Metrics
from server.site.error_pages import ErrorPages
from tests.server.oauth.people import Inn, Person
from tests.server.site.sheets import sheet

pytestmark = [pytest.mark.promise("IDN-31"), pytest.mark.asyncio(loop_scope="module")]
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def is_page(answer: httpx2.Response) -> bool:
    policy = answer.headers["content-security-policy"]
    return (
        answer.headers["content-type"] == "text/html; charset=utf-8"
        and "frame-ancestors 'none'" in policy
        and "style-src 'self'" in policy
        and answer.headers["cache-control"] == "no-store"
        and answer.text.count("<h1>") == 1
        and '<html lang="en">' in answer.text
        and "x-request-id" in answer.headers
    )


async def test_errors_are_pages_to_browsers_and_documents_to_programs(inn: Inn, person: Person) -> None:
    csrf = sheet(await person.browser.get("/projects/new"))["csrf"][0]
    long = {"csrf": csrf, "name": "x" * 70_000}
    attempts: list[tuple[int, str, str, dict[str, Any]]] = [
        (404, "GET", "/nothing/here", {}),
        (404, "GET", f"/projects/{uuid7()}", {}),
        (404, "GET", "/projects/1234", {}),
        (403, "POST", "/projects/new", {"data": {"csrf": "0", "name": "x"}}),
        (
            403,
            "POST",
            "/projects/new",
            {"data": {"csrf": csrf, "name": "x"}, "headers": {"origin": "https://evil.example"}},
        ),
        (405, "DELETE", "/projects", {}),
        (405, "GET", "/sign-out", {}),
        (413, "POST", "/projects/new", {"data": long}),
        (413, "POST", "/projects/new", {"content": b"x" * (4 * 1024 * 1024 + 1)}),
        (415, "POST", "/projects/new", {"json": {"name": "x"}}),
        (421, "GET", "/projects", {"headers": {"host": "evil.example"}}),
    ]
    for status, method, path, more in attempts:
        headers = {**BROWSER, **more.pop("headers", {})}
        answer = await person.browser.request(method, path, headers=headers, **more)
        assert (answer.status_code, is_page(answer)) == (status, True), (method, path)
        if status == 405:
            assert answer.headers["allow"]
    asked = await person.browser.get("/nothing/here", headers={"accept": "application/json"})
    assert (asked.status_code, asked.headers["content-type"]) == (404, "application/problem+json")


async def test_the_bare_address_leads_people_to_the_pages_and_clients_of_mcp_to_its_path(inn: Inn) -> None:
    async with inn.browser() as somebody:
        begun = await somebody.get("/", headers=BROWSER)
        assert (begun.status_code, begun.headers["location"]) == (303, "/projects")
        typed = await somebody.post("/", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert (typed.status_code, "MCP is served at /mcp" in typed.json()["hint"]) == (405, True)


async def test_too_many_requests_say_when_to_come_back(inn: Inn, person: Person) -> None:
    typed = {"csrf": sheet(await person.browser.get("/device"), "/device")["csrf"], "user_code": "WRNG-CODE"}
    answers = []
    for _ in range(120):
        answers.append(await person.browser.post("/device", data=typed, headers=BROWSER))
        if answers[-1].status_code == 429:
            break
    assert (answers[-1].status_code, is_page(answers[-1])) == (429, True)
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_crash_says_nothing_but_what_to_quote() -> None:
    async def broken(_scope: object, _receive: object, _send: object) -> None:
        raise RuntimeError("the secret of the house")

    whole = ErrorPages(FrontDoor(broken, Metrics()))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=whole), base_url="http://inn") as client:
        answer = await client.get("/projects", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (500, True)
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
