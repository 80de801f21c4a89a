"""Signing in and out, and what keeps somebody out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2

from server.limits.newcomers import SIGN_INS_FROM_HERE
from tests.server.oauth.people import Person, hidden
from tests.server.site.acts.world import AGENT, SIGN_IN_PAGE, Told, World, operators, row, with_github


@row("session:opened", "/sign-in/link")
async def by_link(world: World) -> Told:
    await world.person.sign_in()
    return Told(world.me, "link")


@row("session:opened", "/sign-in", "/sign-in/mail")
async def by_mail(world: World) -> Told:
    page = await world.person.browser.get(await asked_link(world, world.person.browser))
    assert (await world.person.browser.post("/sign-in/mail", data=hidden(page))).status_code == 303
    return Told(world.me, "mail")


@row("session:closed", "/sign-out")
async def sign_out(world: World) -> Told:
    here = await world.session()
    await world.form("/sessions", "/sign-out")
    return Told(world.me, str(here))


@row("session:ended", "/sessions/{session_id:uuid}/end")
async def end_session(world: World) -> Told:
    async with world.inn.browser() as elsewhere:
        await Person(world.inn, elsewhere, world.me, {}).sign_in()
        other = await world.session()
        await world.form("/sessions", f"/sessions/{other}/end")
    return Told(world.me, str(other))


@row("session:others_ended", "/sessions/end-others")
async def end_others(world: World) -> Told:
    async with world.inn.browser() as elsewhere:
        await Person(world.inn, elsewhere, world.me, {}).sign_in()
        await world.form("/sessions", "/sessions/end-others")
    return Told(world.me, "1")


@row("sign_in:limited", "/sign-in")
async def try_too_often(world: World) -> Told:
    address = await world.email()
    async with stranger(world) as browser:
        page = await browser.get("/sign-in")
        tries = 10 * int(SIGN_INS_FROM_HERE.burst) + 10
        while (await browser.post("/sign-in", data={**hidden(page), "email": address})).status_code != 429:
            tries -= 1
            assert tries
    return Told(world.me, "mail", client=SIGN_IN_PAGE)


@row("sign_in:refused", "/sign-in")
async def open_somebody_elses_link(world: World) -> Told:
    link = await asked_link(world, world.person.browser)
    async with stranger(world) as browser:
        for _ in range(2):  # noted once
            assert (await browser.get(link)).status_code == 403
    return Told(world.me, "mail", detail="in another browser", client=SIGN_IN_PAGE)


@row("sign_in:refused")
async def come_from_an_issuer_to_a_disabled_account(world: World) -> Told:
    user_id = await with_github(world)
    await world.inn.owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", user_id)
    async with world.house.browser() as browser:
        browser.http.headers["user-agent"] = AGENT
        assert (await browser.sign_in("github")).status_code == 403
    return Told(user_id, "github", detail="the account is disabled", client=SIGN_IN_PAGE)


@operators("link:created", "open", "link")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("open", "--user", str(world.me), "--url", world.inn.url)
    return world.me, str(await world.newest("credentials", "kind = 'link' AND user_id = $1", world.me)), None


async def asked_link(world: World, browser: httpx2.AsyncClient) -> str:
    """The link that this browser gets to sign in with, as the terminal prints it."""
    page = await browser.get("/sign-in")
    if page.status_code == 303:  # somebody is signed in here
        browser.cookies.clear()
        page = await browser.get("/sign-in")
    assert (await browser.post("/sign-in", data={**hidden(page), "email": await world.email()})).status_code == 200
    link = world.links[-1]
    assert link is not None
    return link


@contextlib.asynccontextmanager
async def stranger(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.inn.browser() as browser:
        browser.headers["user-agent"] = AGENT
        yield browser
