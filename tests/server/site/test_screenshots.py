"""The pictures of ``docs/pages``. ``.ci/screenshots`` draws them anew."""

from __future__ import annotations

import os
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.oauth.people import Inn
from tests.server.site.chromium import DARK, LIGHT, PHONE, chromium, window
from tests.server.site.stage import VISITS, stage

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [
    pytest.mark.promise("IDN-31"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.screenshots,
]
KEPT = Path(__file__).parents[3] / "docs" / "pages"
LOOKS = {"light": LIGHT, "dark": DARK, "phone": PHONE}
TALLEST = 1100
"""Pixels."""
PICTURED = [visit for visit in VISITS if visit.status == 200]


async def picture(page: Page) -> bytes:
    """The page, or as much of it as a picture takes. As WebP, a third of what PNG takes, which only CDP draws."""
    # A frame that is loaded is painted later.
    await page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    width, height = await page.evaluate("[innerWidth, Math.max(innerHeight, document.documentElement.scrollHeight)]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST), "scale": 1}
    cdp = await page.context.new_cdp_session(page)
    options = {"format": "webp", "quality": 85, "clip": clip, "captureBeyondViewport": True}
    drawn = await cdp.send("Page.captureScreenshot", options)
    await cdp.detach()
    return b64decode(drawn["data"])


async def test_docs_keep_a_picture_of_every_page_in_light_and_dark_and_on_a_phone(inn: Inn, tmp_path: Path) -> None:
    folder = Path(os.environ.get("INNKEEPER_SCREENSHOTS", tmp_path))
    async with stage(inn) as place, chromium() as browser:
        for look_name, look in LOOKS.items():
            async with window(browser, inn.url, look) as out, window(browser, inn.url, look) as glass:
                await glass.page.goto(await place.link("/projects"))
                await glass.page.get_by_role("button", name="Continue").click()
                for visit in PICTURED:
                    shown = (glass if visit.signed_in else out).page
                    await shown.goto(visit.path(place))
                    (folder / f"{visit.name}-{look_name}.webp").write_bytes(await picture(shown))
    assert {picture.name for picture in KEPT.glob("*")} == {
        f"{visit.name}-{look_name}.webp" for visit in PICTURED for look_name in LOOKS
    }
