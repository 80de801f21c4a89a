"""The pictures of ``docs/pages``. ``.ci/screenshots`` draws them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    pytest.mark.screenshots,
]
KEPT = Path(__file__).parents[3] / "docs" / "pages"
TALLEST = 1100
"""Pixels."""
PICTURED = [visit for visit in VISITS if visit.status == 200]
LOOKS = {"light": LIGHT, "dark": DARK, "phone": PHONE}


async def top(page: Page) -> Any:
    """The page, or as much of it as a picture takes."""
    width, height = await page.evaluate("[innerWidth, Math.max(innerHeight, document.documentElement.scrollHeight)]")
    return {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST)}


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
                    await shown.screenshot(
                        path=folder / f"{visit.name}-{look_name}.png", full_page=True, clip=await top(shown)
                    )
    assert {picture.name for picture in KEPT.glob("*.png")} == {
        f"{visit.name}-{look_name}.png" for visit in PICTURED for look_name in LOOKS
    }
