"""Consent in a real browser: who may frame it, what is set and when, what it asks for again, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from db import sessions
from tests.fakes.sockets import on_socket
from tests.server.oauth.people import Inn, Person, Program, call
from tests.server.site.chromium import Glass, chromium, window

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.promise("IDN-12"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def glass(browser: Browser, inn: Inn, person: Person) -> AsyncIterator[Glass]:
    """The person's browser, signed in."""
    async with window(browser, inn.url) as glass:
        await glass.page.goto(f"/projects?link={await sessions.create_link(inn.owner, person.user_id)}")
        await glass.page.get_by_role("button", name="Continue").click()
        yield glass


class Listener:
    """The program on this computer to which answers go. ``heard``: their queries."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        self.url = ""

    async def back(self, request: Request) -> Response:
        self.heard.append(dict(request.query_params))
        return HTMLResponse("<title>Back</title>Back in the program")

    async def framing(self, request: Request) -> Response:
        return HTMLResponse(f'<title>Evil</title><iframe src="{request.query_params["of"]}"></iframe>')


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    routes = [Route("/back", listener.back), Route("/framing", listener.framing)]
    async with on_socket(Starlette(routes=routes)) as url:
        listener.url = url
        yield listener


async def connecting(inn: Inn, listener: Listener, name: str = "Lantern") -> Program:
    program = await inn.program(client_name=name, redirect_uris=[f"{listener.url}/back"])
    program.redirect_uri = f"{listener.url}/back"
    return program


async def allow(glass: Glass, listener: Listener) -> str:
    """Press the button; the code that the program hears then."""
    await glass.page.get_by_role("button", name="Allow", exact=True).click()
    await glass.page.wait_for_url(f"{listener.url}/back?*")
    return listener.heard[-1]["code"]


async def granted(inn: Inn, person: Person) -> int:
    """What is written down of a person's answers."""
    return int(
        await inn.owner.fetchval(
            "SELECT (SELECT count(*) FROM oauth_codes WHERE user_id = $1)"
            " + (SELECT count(*) FROM oauth_consents WHERE user_id = $1)",
            person.user_id,
        )
    )


async def test_the_page_says_who_asks_where_the_answer_goes_and_for_what(inn: Inn, glass: Glass) -> None:
    async with listening() as listener:
        program = await connecting(inn, listener)
        await glass.page.goto(program.address(scope="projects:read storage:write"))
        text = await glass.page.inner_text("main")
        host = urlsplit(listener.url).netloc
        for said in ("Lantern", host, "program on this very computer", "nobody vouches"):
            assert said in text
        for label in ("See your projects and their settings", "Upload and delete files", "All of mine", "One", "Two"):
            assert await glass.page.get_by_label(label).count() >= 1, label
        await glass.page.get_by_label("It may look, but change nothing").check()
        await glass.page.get_by_label("Only these:").check()
        await glass.page.get_by_label("Two", exact=True).check()
        answer = await program.exchange(await allow(glass, listener))
        assert answer.json()["scope"] == "projects:read"
        listed = await call(inn, answer.json()["access_token"], "list_projects")
        assert ('"name":"Two"' in listed.text.replace("\\", ""), '"name":"One"' in listed.text.replace("\\", "")) == (
            True,
            False,
        )


async def test_no_other_page_can_frame_it(inn: Inn, glass: Glass) -> None:
    async with listening() as listener:
        program = await connecting(inn, listener)
        address = program.address()
        await glass.page.goto(f"{listener.url}/framing?of={quote(address, safe='')}")
        frame = glass.page.frames[1]
        await frame.wait_for_load_state()
        assert frame.url.startswith("chrome-error://")
        assert not await frame.get_by_role("button").count()
        assert any(("frame" in said and "refused" in said.lower()) or "Framing" in said for said in glass.said), (
            glass.said
        )
        glass.said.clear()
        await glass.page.goto(address)
        assert await glass.page.get_by_role("button", name="Allow", exact=True).is_visible()


async def test_nothing_is_set_sent_or_written_before_the_person_has_answered(
    inn: Inn, person: Person, glass: Glass
) -> None:
    async with listening() as listener:
        program = await connecting(inn, listener)
        before = await glass.page.context.cookies()
        await glass.page.goto(program.address(state="of-the-program"))
        assert await glass.page.context.cookies() == before
        assert (await granted(inn, person), listener.heard) == (0, [])

        await glass.page.get_by_role("button", name="Do not allow").click()
        await glass.page.wait_for_url(f"{listener.url}/back?*")
        assert {**listener.heard[-1], "iss": ""} == {
            "error": "access_denied",
            "error_description": listener.heard[-1]["error_description"],
            "state": "of-the-program",
            "iss": "",
        }
        assert await granted(inn, person) == 0

        await glass.page.goto(program.address(state="of-the-program"))
        await allow(glass, listener)
        assert listener.heard[-1]["state"] == "of-the-program"
        assert await granted(inn, person) == 2
        assert await glass.page.context.cookies() == before


async def test_an_answer_is_remembered_and_more_is_asked_for_alone(inn: Inn, glass: Glass) -> None:
    async with listening() as listener:
        program = await connecting(inn, listener)
        await glass.page.goto(program.address(scope="projects:read"))
        await allow(glass, listener)
        await glass.page.goto(program.address(scope="projects:read storage:read"))
        assert await glass.page.title() == "Connect Lantern · Innkeeper"
        asked = glass.page.locator("input[name=scope]")
        assert [await one.get_attribute("value") for one in await asked.all()] == ["storage:read"]
        assert "It may already" in await glass.page.inner_text("main")
        assert await glass.page.locator("input[name=projects]").count() == 0
        code = await allow(glass, listener)
        assert (await program.exchange(code)).json()["scope"] == "projects:read storage:read"


async def test_disconnecting_ends_every_token_at_once(inn: Inn, glass: Glass) -> None:
    async with listening() as listener:
        program = await connecting(inn, listener, "Cartographer")
        await glass.page.goto(program.address())
        tokens = (await program.exchange(await allow(glass, listener))).json()
        assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200
        await glass.page.goto("/apps")
        assert "Cartographer" in await glass.page.inner_text("main")
        await glass.page.get_by_role("button", name="Disconnect Cartographer").click()
        await glass.page.get_by_text("No application is connected").wait_for()
        assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 401
        assert (await program.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_whoever_is_signed_out_signs_in_first_and_comes_back_to_the_question(
    inn: Inn, browser: Browser, links: list[str | None], person: Person
) -> None:
    address = await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", person.user_id)
    async with listening() as listener, window(browser, inn.url) as glass:
        program = await connecting(inn, listener)
        asked = program.address(state="kept")
        await glass.page.goto(asked)
        await glass.page.get_by_label("E-mail").fill(address)
        await glass.page.keyboard.press("Enter")
        await glass.page.get_by_role("heading", name="Look into the terminal").wait_for()
        link = urlsplit(links[-1] or "")
        assert parse_qs(link.query)["token"]
        await glass.page.goto(f"{link.path}?{link.query}")
        await glass.page.get_by_role("button", name="Continue").click()
        await glass.page.get_by_role("heading", name="Lantern").wait_for()
        await allow(glass, listener)
        assert listener.heard[-1]["state"] == "kept"
