"""Debian's Chromium over Playwright, and what is wrong with a page as a person meets it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.node import install

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

PEERS = Path(__file__).parents[1] / "oauth" / "peers"
SHIFT = 0.02
"""The cumulative layout shift that is as good as none: up to 0.1 is called good (web.dev, CLS). An idle machine shows
0; a busy one may draw a page in parts."""
PATIENCE = 60_000
"""Milliseconds."""
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_MEASURED = """async () => {
  const moved = new Promise(done => {
    let sum = 0;
    new PerformanceObserver(list => list.getEntries().forEach(one => sum += one.value))
      .observe({type: 'layout-shift', buffered: true});
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum))));
  });
  const all = what => [...document.querySelectorAll(what)];
  return {
    shift: await moved,
    wide: document.documentElement.scrollWidth - innerWidth,
    title: document.title,
    lang: document.documentElement.lang,
    h1: all('h1').length,
    main: all('main').length,
    active: all('script, style, [style]').length
      + all('*').filter(one => one.getAttributeNames().some(name => name.startsWith('on'))).length,
    unmarked: all('form[method=post]').filter(one => !one.querySelector('[name=csrf]')).map(one => one.action),
    unnamed: all('input:not([type=hidden]), select, textarea').filter(one => !one.labels.length).map(one => one.name),
  };
}"""
_WATCHED = "document.addEventListener('focusin', event => event.target.dataset.reached = '1', true)"
"""Marks what the focus comes to, be it gone again before anybody looks: a frame of another process hands it on late."""
_FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body || one === document.documentElement) return null;
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  return {
    what: one.outerHTML.slice(0, 80),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    seen: box.width > 0 && box.right > 0 && box.bottom > 0 && box.top < innerHeight && box.left < innerWidth,
  };
}"""
_UNREACHED = """() => {
  const stops = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')].filter(one =>
    !one.matches(':disabled') && one.type !== 'hidden' && one.checkVisibility());
  const group = one => one.type === 'radio' ? one.name : '';
  const reached = new Set(stops.filter(one => one.dataset.reached && group(one)).map(group));
  return stops.filter(one => !one.dataset.reached && !reached.has(group(one))).map(one => one.outerHTML.slice(0, 80));
}"""


@dataclass(frozen=True)
class Look:
    """In which light and on what a person sees a page."""

    scheme: Literal["light", "dark"]
    width: int = 820
    height: int = 640


LIGHT, DARK = Look("light"), Look("dark")
PHONE, PHONE_DARK = Look("light", 360, 740), Look("dark", 360, 740)


@dataclass
class Glass:
    """A browser's window. ``said``: what its console complained about."""

    page: Page
    said: list[str] = field(default_factory=list)

    async def faults(self, *, unmarked: frozenset[str] = frozenset(), keys: bool = False) -> list[str]:
        """What is wrong with the page that is shown. ``unmarked``: the paths of forms whose secret is all they need;
        ``keys``: also walk it with the Tab key."""
        measured = await self.page.evaluate(_MEASURED)
        found = [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in await self._axe()]
        found += self.said
        self.said.clear()
        rules = {
            "moves": measured["shift"] > SHIFT,
            "is wider than its window": measured["wide"] > 0,
            "has no title": not re.fullmatch(r".+ · Innkeeper", measured["title"]),
            "has no language": measured["lang"] != "en",
            "has not one heading": measured["h1"] != 1,
            "has not one main part": measured["main"] != 1,
            "holds what could run, or style of its own": measured["active"] > 0,
            "has fields without labels": bool(measured["unnamed"]),
            "has forms without a token": any(not _known(action, unmarked) for action in measured["unmarked"]),
        }
        found += [f"{rule}: {measured}" for rule, broken in rules.items() if broken]
        return found + (await self.tabbed() if keys else [])

    async def tabbed(self) -> list[str]:
        """What the Tab key does not reach, or reaches unseen."""
        found = []
        # Some pages begin in the middle, at the field that people come for: from its end the Tab key starts over.
        in_the_middle = await self.page.evaluate("!!document.querySelector('[autofocus]')")
        rounds = 2 if in_the_middle else 1
        await self.page.evaluate("document.activeElement?.blur()")
        await self.page.evaluate(_WATCHED)
        stop = None
        for number in range(240):
            before = await self.page.evaluate_handle("document.activeElement")
            await self.page.keyboard.press("Tab")
            if stop is not None and stop["what"].startswith("<iframe"):
                # Another process has the frame: it gives the focus back in its own time, or keeps it for its links.
                from playwright.async_api import TimeoutError as TooLong

                with contextlib.suppress(TooLong):
                    await self.page.wait_for_function("of => document.activeElement !== of", arg=before, timeout=2000)
            stop = await self.page.evaluate(_FOCUSED)
            if stop is None:
                rounds -= 1
                # One more where something seems unreached: between a frame and the page the focus is nowhere, too.
                if rounds < 0 or (rounds == 0 and not await self.page.evaluate(_UNREACHED)):
                    break
                continue
            if number == 0 and not in_the_middle and 'class="skip"' not in stop["what"]:
                found.append(f"begins at {stop['what']}")
            if not stop["seen"] or not (stop["outlined"] or stop["what"].startswith("<iframe")):
                found.append(f"focus cannot be seen: {stop}")
        return found + [f"no key reaches {one}" for one in await self.page.evaluate(_UNREACHED)]

    async def _axe(self) -> list[dict[str, Any]]:
        await self.page.evaluate(_axe_source())
        found: dict[str, Any] = await self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations'], iframes: false})"
        )
        return [one for one in found["violations"] if one["impact"] in ("serious", "critical")]


@asynccontextmanager
async def chromium(*options: str) -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*_QUIET, *options])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(browser: Browser, url: str, look: Look = LIGHT, **more: Any) -> AsyncIterator[Glass]:
    """A browser of somebody new."""
    context: BrowserContext = await browser.new_context(
        base_url=url, color_scheme=look.scheme, viewport={"width": look.width, "height": look.height}, **more
    )
    try:
        glass = Glass(await context.new_page())
        glass.page.set_default_timeout(PATIENCE)
        # A refused page is an answer, which the console reports as an error.
        glass.page.on(
            "console",
            lambda line: (
                glass.said.append(line.text)
                if line.type in ("error", "warning") and not line.text.startswith("Failed to load resource")
                else None
            ),
        )
        glass.page.on("pageerror", lambda error: glass.said.append(str(error)))
        yield glass
    finally:
        await context.close()


@cache
def _axe_source() -> str:
    return (install(PEERS) / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def _known(action: str, unmarked: frozenset[str]) -> bool:
    return any(path in action for path in unmarked)
