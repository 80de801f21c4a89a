"""Sessions of people: signed cookies over rows, seen and ended on a page, bound to nothing an attacker can set."""

from __future__ import annotations

import re

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from db import sessions
from server.http.address import PublicAddress
from server.keyring import Keyring
from server.site.session import COOKIE, Sessions
from server.site.user_agents import described
from tests.server.oauth.people import Inn, Person, hidden

MOZILLA = "Mozilla/5.0"
KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-02")]


async def test_a_person_sees_their_sessions_and_ends_one_or_all_others(
    inn: Inn, person: Person, stranger: Person
) -> None:
    async with inn.browser() as second, inn.browser() as third:
        browsers = [Person(inn, browser, person.user_id, person.projects) for browser in (second, third)]
        for one, agent in zip(browsers, (FIREFOX, "curl/8.5.0 <b>"), strict=True):
            one.browser.headers["user-agent"] = agent
            await one.sign_in()
        page = await person.browser.get("/sessions")
        told = re.findall("<strong>(.*?)</strong>.*?from ([0-9.]+)[.]", page.text, re.DOTALL)
        assert told == [("curl", "127.0.0.1"), ("Firefox on Windows", "127.0.0.1"), ("python-httpx2", "127.0.0.1")]
        assert page.text.count("this browser") == 1
        form = {"csrf": hidden(page)["csrf"]}
        others = re.findall(r'action="(/sessions/[0-9a-f-]{36}/end)"[^§]*?End it', page.text)
        foreign = hidden(await stranger.browser.get("/sessions"))
        assert (await stranger.browser.post(others[0], data=foreign)).status_code == 404
        assert (await person.browser.post(others[0], data={"csrf": "0" * 64})).status_code == 403
        assert [(await one.browser.get("/sessions")).status_code for one in browsers] == [200, 200]

        ended = await person.browser.post("/sessions/end-others", data=form)
        assert ended.status_code == 303
        assert [(await one.browser.get("/sessions")).status_code for one in browsers] == [401, 401]
        mine = await person.browser.get("/sessions")
        assert "Firefox" not in mine.text
        own = re.findall(r'action="(/sessions/[0-9a-f-]{36}/end)"', mine.text)
        await person.browser.post(own[0], data=form)
        assert (await person.browser.get("/sessions")).status_code == 401


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (FIREFOX, "Firefox on Windows"),
        (f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) {KIT} Version/18.1 Safari/605.1.15", "Safari on macOS"),
        (
            f"{MOZILLA} (iPhone; CPU iPhone OS 18_1 like Mac OS X) {KIT} CriOS/131.0 Mobile Safari/604.1",
            "Chrome on iPhone",
        ),
        (f"{MOZILLA} (Linux; Android 10; K) {KIT} Chrome/131.0 Mobile Safari/537.36 EdgA/131.0", "Edge on Android"),
        (
            f"{MOZILLA} (Linux; Android 14; SM) {KIT} SamsungBrowser/27.0 Chrome/125.0 Safari/537.36",
            "Samsung Internet on Android",
        ),
        (f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {KIT} Chrome/131.0 Safari/537.36", "Chrome on ChromeOS"),
        (f"{MOZILLA} (X11; Linux x86_64) {KIT} Chrome/131.0 Safari/537.36 OPR/116.0", "Opera on Linux"),
        ("curl/8.5.0", "curl"),
        (f"{MOZILLA} (compatible)", "A browser"),
        ("<script>", "A browser"),
        (None, "A browser"),
    ],
)
async def test_a_browser_is_called_by_its_family_and_its_system(agent: str | None, said: str) -> None:
    assert described(agent) == said


async def test_signing_in_again_makes_a_new_session_and_ends_the_one_before(inn: Inn, person: Person) -> None:
    before = person.browser.cookies[COOKIE]
    await person.sign_in()
    assert person.browser.cookies[COOKIE] != before
    async with inn.browser() as thief:
        thief.cookies.set(COOKIE, before)
        assert (await thief.get("/sessions")).status_code == 401


async def test_a_cookie_that_was_not_signed_here_or_for_this_is_none(inn: Inn, person: Person) -> None:
    cookie = person.browser.cookies[COOKIE]
    token = await sessions.open_session(inn.services.database, await sessions.create_link(inn.owner, person.user_id))
    other_key = OctKey.import_key(b"x" * 32)
    claims = {"jti": token, "sid": str(person.user_id), "aud": "site-session", "exp": 2**40}
    head, body, signature = cookie.split(".")
    for forged in (
        token or "",
        jwt.encode({"alg": "HS256"}, claims, other_key),
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        f"eyJhbGciOiJub25lIn0.{body}.",
        f"{head}.{body}",
        "..",
    ):
        async with inn.browser() as browser:
            browser.cookies.set(COOKIE, forged)
            assert (await browser.get("/sessions")).status_code == 401, forged


async def test_over_https_the_cookie_is_of_this_host_alone(inn: Inn) -> None:
    keyring = Keyring(b"0123456789" * 4)
    plain = Sessions(inn.services.database, keyring, PublicAddress("http://127.0.0.1:8260"))
    secure = Sessions(inn.services.database, keyring, PublicAddress("https://inn.example"))
    assert (plain.cookie, secure.cookie) == (COOKIE, f"__Host-{COOKIE}")
