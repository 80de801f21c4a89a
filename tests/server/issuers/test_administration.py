"""The page of the instance's administrators: what they can do there, and that to others it is not there."""

from __future__ import annotations

import re

import pytest

from tests.conftest import eventually
from tests.server.issuers.house import Browser, House
from tests.server.issuers.test_rechecks import let_in, works
from tests.server.oauth.people import hidden

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-03")]


async def made_admin(house: House, browser: Browser, subject: str) -> str:
    await house.google.someone(f"root{subject}", f"root{subject}@example.org")
    await browser.sign_in("google")
    await house.inn.owner.execute("UPDATE users SET admin_at = now() WHERE email = $1", f"root{subject}@example.org")
    return str((await house.account(f"root{subject}@example.org"))["id"])


async def test_an_administrator_disables_and_enables_accounts_at_once(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    me = await made_admin(house, browser, subject)
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email, name="Ada <b>L</b>")
    await other.sign_in("acme")
    _, tokens = await let_in(house, other, email)
    user_id = (await house.account(email))["id"]
    assert 'href="/admin"' in (await browser.http.get("/account")).text
    page = await browser.http.get("/admin", params={"q": subject.upper()})
    assert email in page.text
    assert "Ada &lt;b&gt;" in page.text
    assert f"/admin/accounts/{me}/disable" not in page.text
    form = {"csrf": hidden(page)["csrf"], "q": subject}
    done = await browser.http.post(f"/admin/accounts/{user_id}/disable", data=form)
    assert (done.status_code, done.headers["location"]) == (303, f"/admin?q={subject}")

    async def stopped() -> bool:
        return not await works(house, tokens["access_token"])

    await eventually(stopped)
    assert not await other.is_signed_in()
    assert (await other.sign_in("acme")).status_code == 403
    assert "disabled" in (await browser.http.get("/admin", params={"q": email})).text
    acts = "SELECT user_id::text, action FROM audit WHERE target = $1 AND action LIKE 'account:%abled' ORDER BY id"
    assert (await browser.http.post(f"/admin/accounts/{user_id}/enable", data=form)).status_code == 303
    assert [tuple(row) for row in await house.inn.owner.fetch(acts, str(user_id))] == [
        (me, "account:disabled"),
        (me, "account:enabled"),
    ]
    assert (await other.sign_in("acme")).status_code == 303
    assert not await works(house, tokens["access_token"]), "nothing comes back"
    for address in (f"/admin/accounts/{me}/disable", "/admin/accounts/00000000-0000-7000-8000-000000000000/disable"):
        assert (await browser.http.post(address, data=form)).status_code == 404
    assert (await browser.http.post(f"/admin/accounts/{user_id}/delete", data=form)).status_code == 404
    assert (await browser.http.post(f"/admin/accounts/{user_id}/disable", data={"csrf": "0" * 64})).status_code == 403
    assert await browser.is_signed_in()


async def test_to_others_there_is_no_such_page(house: House, browser: Browser, other: Browser, subject: str) -> None:
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    user_id = (await house.account(f"{subject}@example.org"))["id"]
    csrf = hidden(await browser.http.get("/account"))["csrf"]
    headers = {"accept": "text/html"}
    for anybody in (browser, other):
        nowhere = await anybody.http.get("/nowhere", headers=headers)
        page = await anybody.http.get("/admin", headers=headers)
        assert (page.status_code, nowhere.status_code) == (404, 404)
        assert re.sub(r"[0-9a-f-]{32,64}", "", page.text) == re.sub(r"[0-9a-f-]{32,64}", "", nowhere.text)
        answer = await anybody.http.post(f"/admin/accounts/{user_id}/disable", data={"csrf": csrf})
        assert answer.status_code == 404
    assert 'href="/admin"' not in (await browser.http.get("/account")).text
    assert await browser.is_signed_in()


async def test_who_is_no_administrator_any_more_sees_nothing_from_then_on(
    house: House, browser: Browser, subject: str
) -> None:
    me = await made_admin(house, browser, subject)
    assert (await browser.http.get("/admin")).status_code == 200
    await house.inn.owner.execute("UPDATE users SET admin_at = NULL WHERE id = $1::text::uuid", me)
    assert (await browser.http.get("/admin")).status_code == 404


async def test_many_accounts_come_page_by_page(house: House, browser: Browser, subject: str) -> None:
    await made_admin(house, browser, subject)
    for number in range(51):
        await house.add(f"n{number}.{subject}@many.example")
    first = await browser.http.get("/admin", params={"q": "@many.example"})
    assert first.text.count("@many.example</strong>") == 50
    more = re.search(r'href="(/admin\?[^"]+)"', first.text)
    assert more
    second = await browser.http.get(more[1].replace("&amp;", "&"))
    assert second.text.count("@many.example</strong>") == 1
    assert (await browser.http.get("/admin", params={"q": "%_\x00'", "before": "x"})).status_code == 200
