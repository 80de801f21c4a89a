"""The page on which people connect and disconnect the accounts that sign them in."""

from __future__ import annotations

import re

import httpx2
import pytest

from tests.conftest import eventually
from tests.server.issuers.house import Browser, House
from tests.server.issuers.test_rechecks import let_in, works
from tests.server.oauth.people import hidden

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-02")]


async def connected(browser: Browser, issuer: str) -> httpx2.Response:
    """Press the button on the page, and come back."""
    assert f'href="/account/connect/{issuer}"' in (await browser.http.get("/account")).text
    answer = await browser.http.get(f"/account/connect/{issuer}", headers={"sec-fetch-site": "same-origin"})
    assert answer.status_code == 303
    return await browser.follow(answer.headers["location"])


async def disconnect(browser: Browser, number: int = 0) -> httpx2.Response:
    page = await browser.http.get("/account")
    address = re.findall(r'action="(/account/identities/[^"]+)"', page.text)[number]
    return await browser.http.post(address, data={"csrf": hidden(page)["csrf"]})


async def test_a_person_connects_another_account_over_an_address_that_both_have(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    house.github.of(int(subject[-9:], 16), ("main@example.org", True, True), (email, False, True))
    answer = await connected(browser, "github")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    page = await browser.http.get("/account")
    assert page.text.count("Disconnect</button>") == 2
    assert "GitHub" in page.text
    # It opens the account from now on, although its main address is another one.
    assert (await other.sign_in("github")).status_code == 303
    assert email in (await other.http.get("/account")).text


@pytest.mark.parametrize(
    "mails",
    [
        [("else@example.org", True, True)],
        [("else@example.org", True, True), ("{email}", False, False)],
        [("{email}", True, False)],
    ],
)
async def test_an_account_without_that_address_verified_is_not_connected(
    house: House, browser: Browser, subject: str, mails: list[tuple[str, bool, bool]]
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    house.github.of(
        int(subject[-9:], 16), *((one.replace("{email}", email), primary, verified) for one, primary, verified in mails)
    )
    answer = await connected(browser, "github")
    assert (answer.status_code, "does not have the address" in answer.text) == (403, True)
    assert await house.identity(str(int(subject[-9:], 16))) is None


async def test_what_opens_somebody_elses_account_is_not_connected_and_nobody_connects_in_anothers_name(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    number = int(subject[-9:], 16)
    house.github.of(number, (f"other{subject}@example.org", True, True))
    await other.sign_in("github")
    house.github.of(number, (f"{subject}@example.org", True, True))
    answer = await connected(browser, "github")
    assert (answer.status_code, "opens the account here already" in answer.text) == (409, True)
    # A way that was begun signed in ends nowhere when somebody else, or nobody, is signed in at its end.
    house.github.of(number + 1, (f"{subject}@example.org", True, True))
    start = await browser.http.get("/account/connect/github", headers={"sec-fetch-site": "same-origin"})
    callback = await browser.callback(start.headers["location"])
    browser.http.cookies.delete("innkeeper_session")
    answer = await browser.http.get(callback)
    assert (answer.status_code, await browser.is_signed_in()) == (403, False)
    assert await house.identity(str(number + 1)) is None
    assert (await browser.http.get("/account/connect/github")).status_code == 401


async def test_disconnecting_ends_what_was_opened_through_it_and_nothing_else(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    house.github.of(int(subject[-9:], 16), (email, True, True))
    await connected(browser, "github")
    _, kept = await let_in(house, browser, email)
    await other.sign_in("github")
    _, tokens = await let_in(house, other, email)
    assert (await disconnect(browser, 1)).status_code == 303
    assert await house.identity(str(int(subject[-9:], 16))) is None
    assert not await other.is_signed_in()

    async def stopped() -> bool:
        return not await works(house, tokens["access_token"])

    await eventually(stopped)
    assert await works(house, kept["access_token"])
    page = await browser.http.get("/account")
    address = re.findall(r'action="(/account/identities/[^"]+)"', page.text)[0]
    assert (await browser.http.post(address, data={"csrf": "0" * 64})).status_code == 403
    # This house sends no mail: the last account that opens it stays.
    answer = await disconnect(browser)
    assert (answer.status_code, "sends no mail" in answer.text) == (409, True)
    assert await browser.is_signed_in()
    async with house.changed(say_link=lambda _address, _link: None) as here:
        browser.http.base_url = httpx2.URL(here.url)
        browser.http.headers["origin"] = here.url
        assert (await disconnect(browser)).status_code == 303
        assert await browser.is_signed_in(), "the session that asks stays"


async def test_nobody_sees_or_disconnects_what_is_somebody_elses(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    await house.acme.someone(f"other{subject}", f"other{subject}@example.org")
    await other.sign_in("acme")
    mine = await house.identity(subject)
    page = await other.http.get("/account")
    assert f"{subject}@example.org" not in page.text.replace(f"other{subject}", "")
    answer = await other.http.post(f"/account/identities/{mine['id']}/disconnect", data={"csrf": hidden(page)["csrf"]})
    assert answer.status_code in (404, 409)
    assert await house.identity(subject) is not None
