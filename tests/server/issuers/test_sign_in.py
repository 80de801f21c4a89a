"""Signing in and up with Google, a company and GitHub: who is let in, as whom, and what they get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from server.settings.sign_in import SignInSettings
from tests.server.command import run
from tests.server.issuers.conftest import environ_of
from tests.server.issuers.house import Browser, House, Peer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-01")]


def query_of(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def peer_of(house: House, issuer: str) -> Peer:
    return house.google if issuer == "google" else house.acme


async def test_the_page_offers_every_issuer_and_what_it_asks_for_is_bound_to_this_house(
    house: House, browser: Browser
) -> None:
    page = await browser.http.get("/sign-in?next=/sessions")
    for issuer, title in (("google", "Google"), ("acme", "Acme"), ("github", "GitHub")):
        assert f'href="/sign-in/with/{issuer}?next=%2Fsessions">Continue with {title}' in page.text
        asked = query_of(await browser.begin(issuer))
        assert asked["redirect_uri"] == f"{house.url}/api/auth/callback/{issuer}"
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert len(asked["state"]) >= 43
        assert len(asked["code_challenge"]) == 43
        assert ("nonce" in asked) == (issuer != "github")
        assert asked.get("access_type") == ("offline" if issuer == "google" else None)
        assert ("offline_access" in asked["scope"]) == (issuer == "acme")


@pytest.mark.promise("IDN-02", "IDN-03")
@pytest.mark.parametrize("issuer", ["google", "acme", "github"])
async def test_who_signs_up_with_an_issuer_gets_what_a_link_by_mail_gives(
    house: House, browser: Browser, subject: str, issuer: str
) -> None:
    email = f"{subject}@example.org"
    if issuer == "github":
        house.github.of(number := int(subject[-9:], 16), (email, True, True), name="Grace Hopper")
        subject = str(number)
    else:
        await peer_of(house, issuer).someone(subject, email.upper(), name="Grace Hopper")
    answer = await browser.sign_in(issuer, next="/device?user_code=ABCD-EFGH")
    assert (answer.status_code, answer.headers["location"]) == (303, "/device?user_code=ABCD-EFGH")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert await browser.is_signed_in()

    account = await house.account(email)
    assert account["name"] == "Grace Hopper"
    owned = await house.inn.owner.fetch(
        "SELECT p.name, m.role FROM projects p JOIN project_members m ON m.project_id = p.id WHERE m.user_id = $1",
        account["id"],
    )
    assert [tuple(row) for row in owned] == [("Personal project", "owner")]
    mails = "SELECT kind FROM house_mails WHERE user_id = $1"
    assert [row["kind"] for row in await house.inn.owner.fetch(mails, account["id"])] == ["welcome"]
    joins = (
        "SELECT count(*) FROM ops.pgqueuer WHERE entrypoint = 'join_audience'"
        " AND convert_from(payload, 'UTF8')::jsonb ->> 'user_id' = $1"
    )
    assert await house.inn.owner.fetchval(joins, str(account["id"])) == 1
    acts = await house.inn.owner.fetch("SELECT action FROM audit WHERE user_id = $1", account["id"])
    assert {row["action"] for row in acts} == {"account:created", "identity:connected", "session:opened"}

    identity = await house.identity(subject)
    assert (identity["user_id"], identity["email"]) == (account["id"], email)
    assert identity["token_kind"] == ("access" if issuer == "github" else "refresh")
    await browser.sign_in(issuer)
    assert await house.inn.owner.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 1
    assert await house.inn.owner.fetchval("SELECT count(*) FROM house_mails WHERE user_id = $1", account["id"]) == 1


@pytest.mark.promise("IDN-02")
@pytest.mark.parametrize("issuer", ["google", "acme", "github"])
async def test_an_account_links_only_over_a_verified_address(
    house: House, browser: Browser, other: Browser, subject: str, issuer: str
) -> None:
    email = f"{subject}@example.org"
    user_id = await house.add(email)
    number = int(subject[-9:], 16)
    for verified in (False, None) if issuer != "github" else (False,):
        if issuer == "github":
            house.github.of(number, (email, True, False), ("else@example.org", False, True))
        else:
            await peer_of(house, issuer).someone(subject, email, verified=verified)
        answer = await browser.sign_in(issuer)
        assert (answer.status_code, "has not confirmed" in answer.text) == (403, True)
        assert not await browser.is_signed_in()
    if issuer == "github":
        house.github.of(number, (email, True, True))
    else:
        await peer_of(house, issuer).someone(subject, email)
    assert (await other.sign_in(issuer)).status_code == 303
    assert await other.is_signed_in()
    identity = await house.identity(str(number) if issuer == "github" else subject)
    assert identity["user_id"] == user_id
    assert await house.inn.owner.fetchval("SELECT count(*) FROM house_mails WHERE user_id = $1", user_id) == 0


@pytest.mark.promise("IDN-02")
async def test_an_address_that_changes_hands_at_an_issuer_opens_nobody_elses_account(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    ada, eve = f"{subject}@example.org", f"eve{subject}@example.org"
    await house.acme.someone(subject, ada)
    await browser.sign_in("acme")
    mine = (await house.account(ada))["id"]
    await house.acme.someone(f"eve{subject}", eve)
    await other.sign_in("acme")
    # Ada marries; Eve, who has an account of her own, takes Ada's old address.
    await house.acme.someone(f"eve{subject}", ada)
    await other.sign_in("acme")
    assert (await house.identity(f"eve{subject}"))["user_id"] == (await house.account(eve))["id"]
    # So does Mallory, who never was here.
    await house.acme.someone(f"mallory{subject}", ada)
    async with house.browser() as third:
        answer = await third.sign_in("acme")
        assert (answer.status_code, "opens the account here already" in answer.text) == (409, True)
        assert not await third.is_signed_in()
    # Ada, whose address there is Eve's old one now, is still Ada.
    await house.acme.someone(subject, eve)
    await browser.sign_in("acme")
    identity = await house.identity(subject)
    assert (identity["user_id"], identity["email"]) == (mine, eve)


@pytest.mark.promise("IDN-02")
async def test_the_sign_up_policy_holds_for_issuers(house: House, subject: str) -> None:
    there, invited = f"{subject}@there.example", f"{subject}@invited.example"
    host = await house.add(there)
    await house.invite(host, invited)
    cases = [
        (SignInSettings(), f"{subject}@example.org", "nobody can sign up by themselves"),
        (
            SignInSettings(sign_up="open", blocked_domains=("bad.example",)),
            f"{subject}@a.bad.example",
            "cannot sign up",
        ),
        (SignInSettings(sign_up="domains", allowed_domains=("example.org",)), f"{subject}@sub.example.org", "cannot"),
        (SignInSettings(sign_up="domains", allowed_domains=("example.org",)), f"{subject}@example.org", None),
        (SignInSettings(), there, None),
        (SignInSettings(blocked_domains=("invited.example",)), invited, "cannot sign up"),
        (SignInSettings(), invited, None),
    ]
    for number, (policy, email, said) in enumerate(cases):
        async with house.changed(sign_in=policy) as here, here.browser() as browser:
            await here.google.control(redirect_uris=[f"{here.url}/api/auth/callback/google"])
            await here.google.someone(f"{subject}{number}", email)
            answer = await browser.sign_in("google")
            assert answer.status_code == (303 if said is None else 403), email
            assert said is None or said in answer.text
            assert await browser.is_signed_in() == (said is None)
            assert (await here.account(email) is None) == (said is not None)


async def test_a_disabled_account_and_a_cancelled_sign_in_end_on_a_page_that_says_so(
    house: House, browser: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.google.someone(subject, email)
    await house.google.control(cancel=True)
    answer = await browser.sign_in("google")
    assert (answer.status_code, "You did not sign in with Google" in answer.text) == (403, True)
    assert "<b>no</b>" not in answer.text
    await house.google.control(cancel=False)
    assert (await browser.sign_in("google")).status_code == 303
    await house.inn.owner.execute("UPDATE users SET disabled_at = now() WHERE email = $1", email)
    answer = await browser.sign_in("google")
    assert (answer.status_code, "Your account here is disabled" in answer.text) == (403, True)
    assert not await browser.is_signed_in()
    house.github.denies = True
    answer = await browser.sign_in("github")
    house.github.denies = False
    assert (answer.status_code, "You did not sign in with GitHub" in answer.text) == (403, True)


async def test_an_issuer_that_is_away_is_said_to_be_and_mail_still_works(house: House, subject: str) -> None:
    acme = house.inn.services.issuers["acme"]
    anew = replace(acme)  # type: ignore[type-var]  # what stands behind the protocol is a dataclass
    async with house.changed(issuers={"acme": anew}) as here, here.browser() as browser:
        await house.acme.control(down=503)
        answer = await browser.http.get("/sign-in/with/acme")
        assert (answer.status_code, "Acme does not answer" in answer.text) == (503, True)
        await house.acme.control(down=0)
        assert (await browser.http.get("/sign-in/with/acme")).status_code == 303
        assert (await browser.http.get("/sign-in/with/nobody")).status_code == 404


@pytest.mark.promise("IDN-03", "IDN-02")
async def test_the_public_url_makes_the_callback_and_cookies_of_its_host_alone(house: House) -> None:
    async with (
        house.changed(public_url="https://inn.example.test", allowed_hosts=("inn.example.test",)) as here,
        here.browser() as browser,
    ):
        for host in ("inn.example.test", "evil.example"):
            answer = await browser.http.get("/sign-in/with/github", headers={"host": host})
            if host == "evil.example":
                assert answer.status_code in (400, 403, 421)
                continue
            asked = query_of(answer.headers["location"])
            assert asked["redirect_uri"] == "https://inn.example.test/api/auth/callback/github"
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-innkeeper_sign_in=")
            assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))


async def test_doctor_says_which_issuer_does_not_answer_or_lacks_a_setting(house: House, tmp_path: Path) -> None:
    environ = environ_of({"google": house.google, "acme": house.acme}, house.github)
    del environ["GITHUB_CLIENT_SECRET"]
    environ["DATABASE_OWNER_URL"] = house.inn.owner_url
    await house.acme.control(down=503)
    ended = await run("doctor", "--json", "--data", str(tmp_path / "none"), cwd=tmp_path, environ=environ)
    await house.acme.control(down=0)
    found = [one for one in json.loads(ended.out)["findings"] if one["subject"] == "sign-in"]
    assert [one["verdict"] for one in found] == ["fault", "ok", "fault"]
    for one, said in zip(found, ("GITHUB_CLIENT_SECRET is not set", "'google'", "Acme does not answer"), strict=True):
        assert said in one["said"]
