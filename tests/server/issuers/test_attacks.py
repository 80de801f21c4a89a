"""What attackers try at the callback, as a matrix: each way in is refused, and the next honest sign-in still works."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from db.budgets import Budget
from server.site import issuer_sign_in
from server.site.browsers import COOKIE
from tests.server.issuers.house import Browser, House
from tests.server.oauth.people import Program, answered

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-14", "IDN-02")]


def query_of(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


async def arriving(house: House, browser: Browser, subject: str) -> str:
    """The callback with which somebody is about to come back from the company's issuer, consent and all."""
    await house.acme.someone(subject, f"{subject}@example.org")
    answer = await browser.http.get(await browser.callback(await browser.begin("acme")))
    return await browser.callback(answer.headers["location"])


def changed(callback: str, **changes: str | None) -> str:
    told = {name: value for name, value in {**query_of(callback), **changes}.items() if value is not None}
    return f"{callback.partition('?')[0]}?{urlencode(told)}"


async def test_a_callback_counts_once_and_its_code_is_worth_nothing_again(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    callback = await arriving(house, browser, subject)
    cookie = browser.http.cookies[COOKIE]
    assert (await browser.http.get(callback)).status_code == 303
    browser.http.cookies.clear()
    browser.http.cookies.set(COOKIE, cookie, domain="127.0.0.1", path="/")
    again = await browser.http.get(callback)
    assert (again.status_code, "finished before" in again.text) == (403, True)
    # The code with a state of the thief's own: the issuer knows it as used, and as bound to another verifier.
    stolen = changed(await arriving(house, other, f"thief{subject}"), code=query_of(callback)["code"])
    answer = await other.http.get(stolen)
    assert (answer.status_code, "used before or has expired" in answer.text) == (502, True)
    assert not await other.is_signed_in()


async def test_a_state_is_of_one_browser(house: House, browser: Browser, other: Browser, subject: str) -> None:
    callback = await arriving(house, browser, subject)
    await other.http.get("/sign-in")
    for stranger in (other, None):
        async with house.browser() as nobody:
            answer = await (stranger or nobody).http.get(callback)
            assert (answer.status_code, "another browser" in answer.text) == (403, True)
            assert not await (stranger or nobody).is_signed_in()
    # Login CSRF: the victim is made to come back with the attacker's code, and the attacker's or their own state.
    mine = await arriving(house, other, f"mallory{subject}")
    for forged in (mine, changed(mine, state=query_of(await browser.begin("acme"))["state"])):
        assert (await browser.http.get(forged)).status_code in (403, 502)
        assert not await browser.is_signed_in()
    assert (await browser.http.get(callback)).status_code == 303, "a stranger uses nothing up"


async def test_parameters_that_come_twice_count_as_none(house: House, browser: Browser, subject: str) -> None:
    callback = await arriving(house, browser, subject)
    answer = await browser.http.get(f"{callback}&state={quote(query_of(callback)['state'])}")
    assert answer.status_code == 403
    answer = await browser.http.get(f"{callback}&iss={quote(house.google.url)}")
    assert answer.status_code == 502
    assert not await browser.is_signed_in()


async def test_issuers_cannot_be_mixed_up(house: House, browser: Browser, subject: str) -> None:
    """The person chose one; the answer is brought to the callback of the other (RFC 9700 4.4)."""
    callback = ""
    for path in ("google", "github"):
        callback = await arriving(house, browser, subject)
        before = (await house.google.control())["exchanges"]
        answer = await browser.http.get(callback.replace("/callback/acme", f"/callback/{path}"))
        assert (answer.status_code, "was not begun with" in answer.text) == (403, True)
        assert (await browser.http.get(callback)).status_code == 403, "its state is used up"
        assert (await house.google.control())["exchanges"] == before, "no code of one goes to the other"
    assert (await browser.http.get(callback.replace("/callback/acme", "/callback/nobody"))).status_code == 404
    assert (await browser.http.get(callback.replace("/callback/acme", "/callback/acme/"))).status_code == 404
    assert (await browser.http.post(callback)).status_code == 405
    assert not await browser.is_signed_in()


EVIL = (
    "https://evil.example/", "//evil.example", "/\\evil.example", "/%2f/evil.example", "javascript:alert(1)", "/mcp",
    "/projects/../../evil", "/api/auth/callback/acme?code=x", "/sign-in/with/acme", "https:evil.example",
    " https://evil.example", "/projects#@evil.example", "\thttps://evil.example",
)  # fmt: skip


async def test_nobody_is_led_to_another_site(house: House, browser: Browser, subject: str) -> None:
    latest = "SELECT next FROM sign_in_flows ORDER BY created_at DESC LIMIT 1"
    for evil in EVIL:
        await browser.begin("acme", next=evil)
        assert await house.inn.owner.fetchval(latest) == "/projects", evil
    await house.acme.someone(subject, f"{subject}@example.org")
    answer = await browser.sign_in("acme", next=EVIL[0])
    assert (answer.status_code, answer.headers["location"]) == (303, "/projects")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_other_site_begins_a_sign_in_or_a_connection(
    house: House, browser: Browser, other: Browser, subject: str, site: str
) -> None:
    foreign = {"sec-fetch-site": site}
    page = await other.http.get("/sign-in/with/acme?next=/sessions", headers=foreign)
    assert (page.status_code, "location" in page.headers, "Continue with Acme" in page.text) == (401, False, True)
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    for address, leads in (("/account/connect/github", "/account"), ("/sign-in/with/github", "/projects")):
        answer = await browser.http.get(address, headers=foreign)
        assert (answer.status_code, answer.headers["location"]) == (303, leads)


async def test_a_session_is_never_the_one_that_was_there_before(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    """Session fixation: the attacker plants their own session before the victim signs in."""
    await house.google.someone(f"mallory{subject}", f"mallory{subject}@example.org")
    await other.sign_in("google")
    planted = other.session
    assert planted is not None
    browser.http.cookies.set("innkeeper_session", planted, domain="127.0.0.1", path="/")
    await house.google.someone(subject, f"{subject}@example.org")
    await browser.sign_in("google")
    assert browser.session not in (None, planted)
    assert subject in (await browser.http.get("/account")).text
    assert not await other.is_signed_in(), "the planted one has ended"


SMALL = Budget(rate=1 / 60, burst=4)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets that a test has used up soon."""
    for budget in ("WAYS", "GUESSES", "ARRIVALS"):
        monkeypatch.setattr(issuer_sign_in, budget, SMALL)


@pytest.mark.usefixtures("small")
async def test_ways_are_limited_by_address_and_others_go_on(house: House) -> None:
    async with (
        house.changed(newcomers=house.strict) as here,
        here.browser("203.0.113.7") as flood,
        here.browser("203.0.113.8") as office,
    ):
        answers = [await flood.http.get("/sign-in/with/github") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [303] * 4 + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await office.http.get("/sign-in/with/github")).status_code == 303


@pytest.mark.usefixtures("small")
async def test_wrong_answers_are_slowed_down_and_right_ones_of_the_same_address_never(
    house: House, subject: str
) -> None:
    async with house.changed(newcomers=house.strict) as here:
        house.github.of(int(subject[-9:], 16), (f"{subject}@example.org", True, True))
        async with here.browser("203.0.113.5") as guesser, here.browser("203.0.113.5") as honest:
            wrong = "/api/auth/callback/github?code=x&state=y"
            statuses = [(await guesser.http.get(wrong)).status_code for _ in range(6)]
            assert (statuses[0], statuses[-1]) == (403, 429)
            assert (await honest.sign_in("github")).status_code == 303


@pytest.mark.usefixtures("small")
async def test_one_account_comes_back_so_often_and_others_go_on(house: House, subject: str) -> None:
    async with house.changed(newcomers=house.strict) as here:
        number = int(subject[-9:], 16)
        house.github.of(number, (f"{subject}@example.org", True, True))
        statuses = []
        for place in range(5):
            async with here.browser(f"203.0.113.{10 + place}") as browser:
                statuses.append((await browser.sign_in("github")).status_code)
        assert statuses == [303] * 4 + [429]
        house.github.of(number + 1, (f"other{subject}@example.org", True, True))
        async with here.browser("203.0.113.14") as browser:
            assert (await browser.sign_in("github")).status_code == 303


async def test_a_session_of_an_issuer_lets_in_only_what_its_person_allows(
    house: House, browser: Browser, subject: str
) -> None:
    """The way back from an issuer leads through consent, never past it."""
    program: Program = await house.inn.program()
    asked = program.address().removeprefix(house.url)
    await house.acme.someone(subject, f"{subject}@example.org")
    answer = await browser.sign_in("acme", next=asked)
    assert answer.headers["location"] == asked
    page = await browser.http.get(answer.headers["location"])
    assert page.status_code == 200
    account = await house.account(f"{subject}@example.org")
    assert answered(await browser.person(account["id"]).press(page, "deny"))["error"] == "access_denied"
