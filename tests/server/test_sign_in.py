"""Signing in and up by a link, as people with browsers do it, and as others try to."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio

from db.credentials import Authenticator
from db.errors import AppError
from server.limits.newcomers import SIGN_INS_FROM_HERE, SIGN_INS_OF_ACCOUNT, Newcomers
from server.settings.sign_in import SignInSettings
from server.site.browsers import COOKIE
from server.site.returning import COOKIE as KNOWN
from server.site.session import COOKIE as SESSION
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.resend_server import KEY, resend
from tests.server.posting import Mailroom, browsing, mailroom
from tools.ports import Services

pytestmark = pytest.mark.promise("IDN-01", "IDN-02", "IDN-03")
NEW = "New.Guest@example.org"
OPEN = SignInSettings(sign_up="open", blocked_domains=("bad.example",))


class Terminal:
    """What ``up`` prints."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str | None]] = []

    def __call__(self, address: str, link: str | None) -> None:
        self.said.append((address, link))

    @property
    def link(self) -> str:
        found = self.said[-1][1]
        assert found is not None
        return found


@pytest_asyncio.fixture
async def room(services: Services, tenant: Tenant, owner: Owner) -> AsyncIterator[Mailroom]:
    async with mailroom(services, tenant, owner) as room:
        yield room


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@asynccontextmanager
async def another(browser: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=browser.base_url, follow_redirects=True, trust_env=False, timeout=60
    ) as other:
        other.headers["origin"] = browser.headers["origin"]
        yield other


def fields(page: httpx2.Response) -> dict[str, str]:
    found = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    return {name: html.unescape(value) for name, value in found}


async def ask(browser: httpx2.AsyncClient, address: str, page: str = "/sign-in") -> httpx2.Response:
    return await browser.post("/sign-in", data={**fields(await browser.get(page)), "email": address})


async def follow(browser: httpx2.AsyncClient, link: str) -> httpx2.Response:
    opened = await browser.get(link)
    assert opened.status_code == 200, opened.text
    return await browser.post("/sign-in/mail", data=fields(opened))


async def address_of(owner: Owner, tenant: Tenant) -> str:
    return str(await owner.fetchval("SELECT email FROM users WHERE id = $1", tenant.user_id))


@pytest.mark.promise("EML-04")
async def test_who_signs_up_by_mail_has_a_project_a_welcome_and_a_place_in_the_audience(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> None:
    async with resend() as provider:
        environ = {
            "RESEND_API_KEY": KEY,
            "RESEND_API_URL": provider.url,
            "RESEND_SEGMENT_ID": "guests",
            "EMAIL_FROM_DEFAULT": "Inn <inn@example.com>",
        }
        async with (
            mailroom(services, tenant, owner, environ) as room,
            browsing(room, authenticator, sign_in=OPEN) as me,
        ):
            said = await ask(me, NEW)
            assert (said.status_code, "Look into your mail" in said.text) == (200, True)
            assert not await owner.fetchval("SELECT count(*) FROM users WHERE email = $1", NEW.lower())

            async def arrived() -> bool:
                return [mail["subject"] for mail in provider.mails].count("Welcome to Innkeeper") == 1

            async with room.working():
                await eventually(lambda: _is(len(provider.mails) == 1))
                link = re.findall(r"http\S+/sign-in/mail\?token=\w+", provider.mails[0]["text"])[0]
                assert (await follow(me, link)).status_code == 200
                await ask(me, NEW)
                await eventually(arrived)
                await eventually(lambda: _is(provider.segments == {"guests": {NEW.lower()}}))
            assert (await me.get("/sessions")).status_code == 200
            account = await owner.fetchrow(
                "SELECT u.id, p.name, m.role FROM users u JOIN project_members m ON m.user_id = u.id"
                " JOIN projects p ON p.id = m.project_id WHERE u.email = $1",
                NEW.lower(),
            )
            assert account is not None
            assert (account["name"], account["role"]) == ("Personal project", "owner")
            acts = await owner.fetch("SELECT action FROM audit WHERE user_id = $1 ORDER BY action", account["id"])
            assert [row["action"] for row in acts] == ["account:created", "session:opened"]


async def _is(value: bool) -> bool:
    return value


async def test_a_link_opens_once_in_the_browser_that_asked_and_only_by_its_button(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal, owner: Owner, tenant: Tenant
) -> None:
    address = await address_of(owner, tenant)
    async with browsing(room, authenticator, say_link=terminal) as me, another(me) as thief:
        await ask(me, address)
        for _ in range(2):  # a scanner of mail looks at links
            assert (await thief.get(terminal.link)).status_code == 403
            assert (await thief.head(terminal.link)).status_code in (403, 405)
        form = fields(await me.get(terminal.link))
        await ask(thief, "somebody@example.org")
        stolen = await thief.post("/sign-in/mail", data={**form, "csrf": fields(await thief.get("/sign-in"))["csrf"]})
        assert (stolen.status_code, "another browser" in stolen.text) == (403, True)
        foreign = await me.post("/sign-in/mail", data=form, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert (await me.post("/sign-in/mail", data={**form, "csrf": "0" * 64})).status_code == 403
        assert not await owner.fetchval("SELECT count(*) FROM credentials WHERE kind = 'session'")

        await ask(me, address)
        late = terminal.link
        signed_in = await me.post("/sign-in/mail", data=form)
        assert (signed_in.status_code, signed_in.url.path) == (200, "/projects")
        (cookie,) = [one for one in signed_in.history[0].headers.get_list("set-cookie") if SESSION in one]
        assert {"HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
        assert COOKIE not in me.cookies
        page = await me.get("/sign-in?next=/sessions")
        assert page.url.path == "/sessions"
        # The browser that signed in has forgotten what it asked with; the link that is left opens nothing.
        assert (await me.get(late)).status_code == 403
        replayed = await me.post("/sign-in/mail", data=form)
        assert replayed.status_code == 403


async def test_a_used_or_late_link_is_closed_to_the_very_browser_that_asked(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal, owner: Owner, tenant: Tenant
) -> None:
    address = await address_of(owner, tenant)
    async with browsing(room, authenticator, say_link=terminal) as me:
        await ask(me, address)
        kept = me.cookies[COOKIE]
        form = fields(await me.get(terminal.link))
        assert (await me.post("/sign-in/mail", data=form)).status_code == 200
        me.cookies.set(COOKIE, kept)
        again = await me.post("/sign-in/mail", data=form)
        assert (again.status_code, "used before or has expired" in again.text) == (403, True)
        me.cookies.clear()
        await ask(me, address)
        form = fields(await me.get(terminal.link))
        await owner.execute("UPDATE sign_in_links SET expires_at = now() WHERE used_at IS NULL")
        assert (await me.get(terminal.link)).status_code == 403
        assert (await me.post("/sign-in/mail", data=form)).status_code == 403


async def test_nobody_learns_who_has_an_account_and_only_whom_the_policy_lets_gets_one(
    room: Mailroom, authenticator: Authenticator, owner: Owner, tenant: Tenant
) -> None:
    address = await address_of(owner, tenant)
    domain = address.partition("@")[2]
    cases: list[tuple[SignInSettings, list[str], list[str]]] = [
        (SignInSettings(), [address], ["a@example.org", f"a@{domain}"]),
        (OPEN, [address, "a@example.org"], ["a@bad.example", "a@deep.bad.example"]),
        (
            SignInSettings(sign_up="domains", allowed_domains=("example.org",), blocked_domains=(domain,)),
            [address, "b@example.org"],
            ["b@sub.example.org", "b@example.org.evil.example"],
        ),
    ]
    for policy, let_in, kept_out in cases:
        terminal = Terminal()
        async with browsing(room, authenticator, say_link=terminal, sign_in=policy) as me:
            answers = {one: await ask(me, one) for one in (*let_in, *kept_out)}
        assert {len(answer.text.replace(one, "")) for one, answer in answers.items()} == {
            len(answers[address].text.replace(address, ""))
        }
        assert {answer.status_code for answer in answers.values()} == {200}
        assert [one for one, link in terminal.said if link] == let_in
        assert [one for one, link in terminal.said if link is None] == kept_out
    await owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", tenant.user_id)
    terminal = Terminal()
    async with browsing(room, authenticator, say_link=terminal, sign_in=OPEN) as me:
        await ask(me, address)
    assert terminal.said == [(address, None)]


async def test_a_person_comes_back_to_where_they_were_stopped_and_never_to_another_site(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal, owner: Owner, tenant: Tenant
) -> None:
    address = await address_of(owner, tenant)
    async with browsing(room, authenticator, say_link=terminal) as me:
        client = await me.post("/oauth/register", json={"client_name": "x", "redirect_uris": ["http://127.0.0.1/cb"]})
        asked = (
            f"/oauth/authorize?response_type=code&client_id={client.json()['client_id']}"
            f"&redirect_uri={quote('http://127.0.0.1/cb', safe='')}"
            f"&code_challenge={'a' * 43}&code_challenge_method=S256"
        )
        for page in (asked, "/device?user_code=ABCD-EFGH", "/approvals"):
            me.cookies.clear()
            stopped = await me.get(page)
            assert stopped.status_code == 401
            await me.post("/sign-in", data={**fields(stopped), "email": address})
            back = await follow(me, terminal.link)
            assert (back.status_code, back.url.raw_path.decode()) == (200, page)
        for evil in ("https://evil.example/", "//evil.example", "/\\evil.example", "/mcp", "javascript:alert(1)"):
            me.cookies.clear()
            shown = await me.get("/sign-in", params={"next": evil})
            assert fields(shown)["next"] == "/projects"
            await owner.execute("DELETE FROM sign_in_links")
            await me.post("/sign-in", data={**fields(shown), "next": evil, "email": address})
            assert await owner.fetchval("SELECT next FROM sign_in_links") in (None, "/projects")


async def test_what_is_typed_wrong_is_said_and_forms_of_others_are_refused(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal
) -> None:
    async with browsing(room, authenticator, say_link=terminal) as me, another(me) as other:
        for wrong in ("", "nobody", "a@b@c", "a\r\nBcc: b@example.org", '<a@example.org>"', "A <a@example.org>"):
            answer = await ask(me, wrong)
            assert (answer.status_code, 'role="alert"' in answer.text) == (400, True), wrong
        form = {**fields(await me.get("/sign-in")), "email": "a@example.org"}
        refused = [
            await other.post("/sign-in", data=form),
            await me.post("/sign-in", data={**form, "csrf": ""}),
            await me.post("/sign-in", data=form, headers={"origin": "http://127.0.0.1:1"}),
            await me.post("/sign-in", data=form, headers={"sec-fetch-site": "cross-site"}),
        ]
        assert [one.status_code for one in refused] == [403] * 4
        policy = (await me.get("/sign-in")).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert terminal.said == []


async def test_asking_is_limited_by_mailbox_and_from_where_without_touching_others(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal
) -> None:
    async with browsing(room, authenticator, say_link=terminal) as me:
        answers = [(await ask(me, "often@example.org")).status_code for _ in range(int(SIGN_INS_FROM_HERE.burst) + 1)]
        assert answers == [200] * int(SIGN_INS_FROM_HERE.burst) + [429]
        assert (await ask(me, "OFTEN@example.org")).headers["retry-after"]
        assert (await ask(me, "other@example.org")).status_code == 200


@pytest.mark.promise("IDN-14")
async def test_strangers_who_ask_in_somebodys_name_lock_nobody_out_of_a_browser_of_theirs(
    room: Mailroom, authenticator: Authenticator, terminal: Terminal, owner: Owner, tenant: Tenant
) -> None:
    address = await address_of(owner, tenant)
    newcomers = Newcomers(room.database, clock=lambda: 0.0)
    async with browsing(room, authenticator, say_link=terminal, newcomers=newcomers) as me, another(me) as stranger:
        await ask(me, address)
        await follow(me, terminal.link)
        await me.post("/sign-out", data={"csrf": fields(await me.get("/sessions"))["csrf"]})
        assert (await me.get("/sessions")).status_code == 401
        # Strangers use up what there is for the mailbox, whoever asks, and for where they are.
        for key, budget in (("sign-in to", SIGN_INS_OF_ACCOUNT), ("sign-in here", SIGN_INS_FROM_HERE)):
            whose = address if key == "sign-in to" else f"127.0.0.1 {address}"
            for _ in range(int(budget.burst) + 3):
                with suppress(AppError):
                    await newcomers.count(key, whose, budget)
        assert (await ask(stranger, address)).status_code == 429
        assert (await ask(me, address)).status_code == 200
        assert (await follow(me, terminal.link)).status_code == 200
        # What this browser may ask for is a budget too, and is only of whom it is known.
        me.cookies.delete(SESSION)
        asked = [(await ask(me, address)).status_code for _ in range(int(SIGN_INS_FROM_HERE.burst) + 2)]
        assert 429 in asked
        stranger.cookies.set(KNOWN, "a.b.c")
        assert (await ask(stranger, address)).status_code == 429


async def test_a_server_without_mail_says_how_to_get_it(room: Mailroom, authenticator: Authenticator) -> None:
    async with browsing(room, authenticator) as me:
        page = await me.get("/sign-in")
        assert (page.status_code, "RESEND_API_KEY" in page.text, "<form" in page.text) == (200, True, False)


@pytest.mark.parametrize(
    "given",
    [
        {"sign_up": "domains"},
        {"sign_up": "everybody"},
        {"sign_up": "domains", "allowed_domains": "@example.org"},
        {"blocked_domains": "*.example.org"},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|should be"):
        SignInSettings(**given)
