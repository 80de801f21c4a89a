"""Every page in a real browser: what axe-core, the Tab key, a phone and the dark find wrong with it. Nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from db import sessions
from server.mail.unsubscribe import PATH as UNSUBSCRIBE
from tests.server.oauth.people import Inn
from tests.server.site.chromium import LIGHT, PHONE_DARK, Glass, Look, chromium, window
from tests.server.site.sheets import sheet
from tests.server.site.stage import FRAMED, VISITS, Stage, pages, stage

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.promise("IDN-31"), pytest.mark.asyncio(loop_scope="module")]
UNMARKED = frozenset({"/sign-in/link", UNSUBSCRIBE})
"""Forms that carry the secret which is all they need."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(inn: Inn) -> AsyncIterator[Stage]:
    async with stage(inn) as place:
        yield place


async def sign_in(glass: Glass, place: Stage, path: str = "/projects") -> None:
    await glass.page.goto(await place.link(path))
    await glass.page.get_by_role("button", name="Continue").click()


async def test_no_page_is_left_out_of_the_walk(inn: Inn) -> None:
    assert pages(inn) - FRAMED == {visit.template for visit in VISITS} - {""}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("look", "keys"), [(LIGHT, True), (PHONE_DARK, False)], ids=["light", "phone-dark"])
async def test_every_page_is_sound(browser: Browser, place: Stage, look: Look, keys: bool) -> None:
    found: dict[str, list[str]] = {}
    async with window(browser, place.inn.url, look) as out, window(browser, place.inn.url, look) as glass:
        await sign_in(glass, place)
        titles = []
        for visit in VISITS:
            shown = glass if visit.signed_in else out
            answer = await shown.page.goto(visit.path(place))
            assert answer is not None
            assert answer.status == visit.status, visit.name
            if visit.status == 200:
                titles.append(await shown.page.title())
            if faults := await shown.faults(unmarked=UNMARKED, keys=keys):
                found[visit.name] = faults
        assert not found, "\n".join(f"{name}: {fault}" for name, faults in found.items() for fault in faults)
        assert sorted(titles) == sorted(set(titles)), "each page has a title of its own"


async def test_whoever_is_signed_out_is_shown_how_to_sign_in_on_every_page_and_comes_back_to_it(place: Stage) -> None:
    async with place.inn.browser() as somebody:
        for visit in VISITS:
            if not visit.signed_in or not visit.template or visit.hidden:
                continue
            path = visit.path(place).removeprefix(place.inn.url)
            somebody.cookies.clear()
            stopped = await somebody.get(path)
            assert (stopped.status_code, "<h1>Sign in</h1>" in stopped.text) == (401, True), visit.name
            assert sheet(stopped, "/sign-in")["next"] == [path]
            entrance = await somebody.get(await place.link(path))
            opened = await somebody.post("/sign-in/link", data=sheet(entrance, "/sign-in/link"))
            assert opened.status_code == 303
            assert urlsplit(opened.headers["location"]) == urlsplit(path), visit.name
            assert (await somebody.get(opened.headers["location"])).status_code in (visit.status, 303), visit.name


async def test_pages_with_nothing_to_show_say_what_to_do(inn: Inn, browser: Browser) -> None:
    found: dict[str, list[str]] = {}
    async with inn.person("Nothing") as person, window(browser, inn.url, PHONE_DARK) as glass:
        await inn.owner.execute("DELETE FROM projects WHERE created_by = $1", person.user_id)
        link = await sessions.create_link(inn.owner, person.user_id)
        await glass.page.goto(f"/projects?link={link}")
        await glass.page.get_by_role("button", name="Continue").click()
        for path in ("/projects", "/approvals", "/apps", "/mails"):
            await glass.page.goto(path)
            assert len(await glass.page.locator(".empty").inner_text()) > 20, path
            if faults := await glass.faults():
                found[path] = faults
    assert not found
