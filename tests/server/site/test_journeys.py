"""What people do on the site from beginning to end: by keyboard alone and without JavaScript, and every page that only
a form leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.server.oauth.people import Inn, Program, call
from tests.server.site.chromium import LIGHT, PHONE_DARK, Glass, Look, chromium, window
from tests.server.site.stage import Stage, stage

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.promise("IDN-31"), pytest.mark.asyncio(loop_scope="module")]
_FOCUSED = """() => {
  const one = document.activeElement;
  return (one.labels?.[0] ?? one).textContent.replace(/\\s+/g, ' ').trim();
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def place(inn: Inn) -> AsyncIterator[Stage]:
    async with stage(inn) as place:
        yield place


class Keyboard:
    """A person without a mouse."""

    def __init__(self, glass: Glass) -> None:
        self._page = glass.page

    async def to(self, name: str) -> None:
        """Tab on until what is called ``name`` has the focus."""
        for _ in range(80):
            await self._page.keyboard.press("Tab")
            if await self._page.evaluate(_FOCUSED) == name:
                return
        raise AssertionError(f"no key leads to {name!r} on {self._page.url}")

    async def begins_at(self, name: str) -> None:
        """Wait until the page has put the focus where it begins: a browser does that after it has drawn it."""
        for _ in range(2000):
            if (await self._page.evaluate(_FOCUSED)).startswith(name):
                return
        raise AssertionError(f"{self._page.url} does not begin at {name!r}")

    async def press(self, name: str) -> None:
        await self.to(name)
        await self.enter()

    async def enter(self, text: str | None = None, *, instead: bool = False) -> None:
        """Type ``text`` and send it."""
        if instead:
            await self._page.keyboard.press("Control+A")
        if text is not None:
            await self._page.keyboard.type(text)
        async with self._page.expect_navigation():
            await self._page.keyboard.press("Enter")

    async def heading(self) -> str:
        return await self._page.inner_text("h1")


async def test_a_person_signs_in_makes_uses_and_deletes_a_project_by_keyboard_without_javascript(
    inn: Inn, browser: Browser, place: Stage, links: list[str | None]
) -> None:
    address = await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", place.person.user_id)
    async with window(browser, inn.url, java_script_enabled=False) as glass:
        page, keyboard = glass.page, Keyboard(glass)
        await page.goto("/projects/new")
        await keyboard.begins_at("E-mail")
        await keyboard.enter(address, instead=True)
        link = urlsplit(links[-1] or "")
        await page.goto(f"{link.path}?{link.query}")
        await keyboard.begins_at("Continue")
        await keyboard.enter()
        assert urlsplit(page.url).path == "/projects/new"

        await keyboard.to("Name")
        await keyboard.enter("Lighthouse")
        assert await keyboard.heading() == "Lighthouse"
        project = urlsplit(page.url).path
        await keyboard.press("Settings")
        await keyboard.to("Name")
        await keyboard.enter("Lightship", instead=True)
        assert "The settings are saved" in await page.inner_text("main")

        await keyboard.press("Keys")
        await keyboard.press("Secret key")
        await keyboard.to("Name")
        await keyboard.enter("the fog horn")
        token = (await page.inner_text("pre.secret")).strip()
        listed = await call(inn, token, "list_projects")
        assert (listed.status_code, "Lightship" in listed.text, "Harbour" in listed.text) == (200, True, False)
        await keyboard.press("To the keys of this project")
        assert token not in await page.content()
        await keyboard.to("Revoke it: the fog horn")
        await page.keyboard.press("Enter")
        await keyboard.press("Revoke the fog horn")
        assert "There is no key yet" in await page.inner_text("main")
        assert (await call(inn, token, "list_projects")).status_code == 401

        await keyboard.press("Settings")
        await keyboard.to("Each time")
        await page.keyboard.press("ArrowUp")
        await keyboard.press("Save")
        assert await keyboard.heading() == "Save this?"
        await keyboard.press("Yes, save it")
        policy = await inn.owner.fetchval("SELECT approval_policy FROM projects WHERE name = 'Lightship'")
        assert policy == "never"

        await keyboard.press("Delete this project")
        await keyboard.to("Type the name of the project")
        await keyboard.enter("Lighthouse")
        await keyboard.begins_at("Nothing was saved")
        await keyboard.to("That is not the name of the project.")
        await page.keyboard.press("Enter")
        assert await page.evaluate(_FOCUSED) == "Type the name of the project"
        await keyboard.enter("Lightship", instead=True)
        assert await keyboard.heading() == "Projects"
        gone = await page.goto(project)
        assert gone is not None
        assert gone.status == 404
        await keyboard.press("Sign out")
        assert await keyboard.heading() == "Sign in"
        assert glass.said == []


@pytest.mark.parametrize("look", [LIGHT, PHONE_DARK], ids=["light", "phone-dark"])
async def test_pages_that_only_a_form_leads_to_are_sound(
    inn: Inn, browser: Browser, place: Stage, links: list[str | None], look: Look
) -> None:
    found: dict[str, list[str]] = {}
    async with window(browser, inn.url, look) as glass:
        page = glass.page

        async def seen(heading: str) -> None:
            await page.get_by_role("heading", name=heading, level=1).wait_for()
            if faults := await glass.faults(unmarked=frozenset({"/sign-in/link"})):
                found[heading] = faults

        async def press(name: str) -> None:
            await page.get_by_role("button", name=name, exact=True).click()

        project = f"/projects/{place.project}"
        await page.goto(await place.link("/projects"))
        await seen("Welcome")
        await page.goto("/sign-in")
        await page.get_by_label("E-mail").evaluate("one => { one.type = 'text'; one.value = 'nobody'; }")
        await press("Print the link")
        await seen("Sign in")
        address = await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", place.person.user_id)
        await page.get_by_label("E-mail").fill(address)
        await press("Print the link")
        await seen("Look into the terminal")
        link = urlsplit(links[-1] or "")
        await page.goto(f"{link.path}?{link.query}")
        await seen(f"Sign in as {address}?")
        await press("Continue")

        await page.goto("/projects/new")
        await page.get_by_label("Name", exact=True).fill(" ")
        await press("Create it")
        await seen("New project")
        await page.goto(f"{project}/settings")
        await page.get_by_label("Most tool calls of a run").fill("many")
        await page.get_by_label("Namespace").fill("Not One")
        await press("Save")
        await seen("Settings")
        await page.goto(f"{project}/settings")
        await page.get_by_label("Never").check()
        await press("Save")
        await seen("Save this?")
        await page.goto(f"{project}/delete")
        await page.get_by_label("Type the name").fill("x")
        await press("Delete it for good")
        await seen("Delete")
        await page.goto(f"{project}/keys/new?kind=secret")
        for box in await page.locator("input[name=scope]").all():
            await box.uncheck()
        await page.get_by_label("Name", exact=True).fill("x")
        await press("Make the key")
        await seen("New secret key")
        await page.locator("input[name=scope]").first.check()
        await press("Make the key")
        await seen("Your new key")
        await page.goto(f"{project}/keys/new?kind=publishable")
        await page.get_by_label("Name", exact=True).fill("x")
        await page.get_by_label("Origins").fill("*.example.com")
        await press("Make the key")
        await seen("New publishable key")
        await page.goto(f"{project}/provider-keys")
        await page.get_by_label("Key", exact=True).fill("no key at all")
        await press("Check and save")
        await seen("Provider keys")
        await page.goto(f"{project}/email")
        await page.get_by_label("Key of the account").fill("re_no_key")
        await page.get_by_label("Sender").fill("nobody")
        await press("Check and save")
        await seen("Mail account")
        await page.goto(f"/approvals/{place.ids['approval_id']}")
        await press("Do not allow")
        await seen("Delete project")

        asked = await Program(inn, "innkeeper-cli").post("/oauth/device_authorization", scope="projects:read")
        await page.goto("/device")
        await page.get_by_label("Code").fill("WRNG-CODE")
        await press("Continue")
        await seen("Connect a device")
        await page.get_by_label("Code").fill(asked.json()["user_code"])
        await press("Continue")
        await seen("Innkeeper command line")
        await press("Allow")
        await seen("Connected")
        await page.goto(place.program.address(scope="projects:read"))
        for box in await page.locator("input[name=scope]").all():
            await box.uncheck()
        await press("Allow")
        await seen("Lantern")
    assert not found, "\n".join(f"{name}: {fault}" for name, faults in found.items() for fault in faults)
