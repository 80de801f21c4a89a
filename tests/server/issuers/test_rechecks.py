"""Accounts at issuers are asked about again: what is refused there stops working here, everywhere and at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.keyring import Keyring
from server.rotation import reseal
from server.vault import Vault
from tests.conftest import eventually
from tests.server.issuers.house import CHECKS, Browser, House
from tests.server.oauth.people import DEVICE, Program, call, hidden

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-02")]


async def let_in(house: House, browser: Browser, email: str) -> tuple[Program, dict[str, str]]:
    """An application that the person lets in, signed in as they are."""
    program = await house.inn.program()
    account = await house.account(email)
    return program, await program.tokens(browser.person(account["id"]), scopes=["projects:read"])


async def works(house: House, token: str) -> bool:
    return (await call(house.inn, token, "list_projects")).status_code == 200


@pytest.mark.parametrize("issuer", ["google", "acme", "github", "github-app"])
async def test_a_refused_account_has_no_session_or_grant_until_it_signs_in_again(
    house: House, browser: Browser, other: Browser, subject: str, issuer: str
) -> None:
    email, known = f"{subject}@example.org", subject
    house.github.app = issuer == "github-app"
    issuer = issuer.partition("-")[0]
    peer = house.google if issuer == "google" else house.acme
    if issuer == "github":
        house.github.of(int(subject[-9:], 16), (email, True, True))
        known = str(int(subject[-9:], 16))
    else:
        await peer.someone(subject, email)
    await browser.sign_in(issuer)
    program, tokens = await let_in(house, browser, email)
    before = (await house.identity(known))["token"]
    assert (await house.recheck(known))["suspended_at"] is None
    assert await works(house, tokens["access_token"])
    after = await house.identity(known)
    assert after["checked_at"] > after["used_at"]
    vault = Vault(house.inn.services.keyring)
    opened = [vault.open(after["id"], "identities.token", sealed) for sealed in (before, after["token"])]
    assert (opened[0] == opened[1]) == (issuer == "github" and not house.github.app), "refreshed where it can be"
    assert all(token.encode() not in sealed for token, sealed in zip(opened, (before, after["token"]), strict=True))

    if issuer == "github":
        house.github.revoke()
    else:
        await peer.without(subject)
    refused = await house.recheck(known)
    assert refused["suspended_at"] is not None
    assert refused["token"] is None

    async def stopped() -> bool:
        return not await works(house, tokens["access_token"])

    await eventually(stopped)
    assert not await browser.is_signed_in()
    assert (await program.refresh(tokens["refresh_token"])).status_code == 400
    acts = "SELECT count(*) FROM audit WHERE action = 'identity:suspended' AND user_id = $1"
    assert await house.inn.owner.fetchval(acts, refused["user_id"]) == 1

    if issuer != "github":
        await peer.someone(subject, email)
    assert (await other.sign_in(issuer)).status_code == 303
    assert (await house.identity(known))["suspended_at"] is None
    assert not await browser.is_signed_in(), "sessions that ended stay so"
    again = await program.refresh(tokens["refresh_token"])
    assert again.status_code == 200, again.text
    assert await works(house, again.json()["access_token"])
    house.github.app = False


@pytest.mark.parametrize("status", [503, 429])
async def test_an_issuer_that_is_away_suspends_nobody(
    house: House, browser: Browser, subject: str, status: int
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    _, tokens = await let_in(house, browser, email)
    await house.acme.control(down=status)
    found = await house.recheck(subject)
    assert (found["suspended_at"], found["token"] is not None) == (None, True)
    assert await works(house, tokens["access_token"])
    await house.acme.control(down=0)
    assert (await house.recheck(subject))["checked_at"] > found["checked_at"]


async def test_what_was_let_in_another_way_goes_on(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.google.someone(subject, email)
    await browser.sign_in("google")
    _, tokens = await let_in(house, browser, email)
    by_mail = other.person((await house.account(email))["id"])
    await by_mail.sign_in()
    _, kept = await let_in(house, other, email)
    await house.google.without(subject)
    assert (await house.recheck(subject))["suspended_at"] is not None

    async def stopped() -> bool:
        return not await works(house, tokens["access_token"])

    await eventually(stopped)
    assert await works(house, kept["access_token"])
    assert await other.is_signed_in()
    page = await other.http.get("/account")
    assert "suspended" in page.text


async def test_an_issuer_that_gives_nothing_to_ask_with_is_asked_by_signing_in_each_day(
    house: House, browser: Browser, other: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    program, tokens = await let_in(house, browser, email)
    await house.inn.owner.execute(
        "UPDATE identities SET token = NULL, token_kind = NULL, checked_at = now() - interval '20 hours'"
        " WHERE subject = $1",
        subject,
    )
    await house.work(CHECKS, "look_at_identities")
    assert (await house.identity(subject))["suspended_at"] is None
    assert (await house.recheck(subject))["suspended_at"] is not None
    assert (await program.refresh(tokens["refresh_token"])).status_code == 400
    # Signing in again, it is asked for consent, since there is nothing to ask with.
    assert "prompt=consent" not in await other.begin("acme")
    assert (await other.sign_in("acme")).status_code == 303
    found = await house.identity(subject)
    assert (found["suspended_at"], found["token_kind"]) == (None, "refresh")
    assert (await program.refresh(tokens["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("status", "body", "suspended"),
    [
        (403, {"message": "API rate limit exceeded for user ID 1."}, False),
        (403, {"message": "Sorry. Your account was suspended."}, True),
        (401, {"message": "Bad credentials"}, True),
        (200, {"id": 1, "login": "somebody-else"}, True),
        (500, {}, False),
        (404, {"message": "Not Found"}, False),
    ],
)
async def test_what_github_answers_counts_as_what_it_means(
    house: House, browser: Browser, subject: str, status: int, body: dict[str, object], suspended: bool
) -> None:
    house.github.of(number := int(subject[-9:], 16), (f"{subject}@example.org", True, True))
    await browser.sign_in("github")
    house.github.answers = [(status, body)] * 2
    found = await house.recheck(str(number))
    house.github.answers = []
    assert (found["suspended_at"] is not None) == suspended


async def test_tokens_of_issuers_go_along_when_the_root_secret_changes(
    house: House, browser: Browser, subject: str
) -> None:
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    before = await house.identity(subject)
    old, new = b"0123456789" * 4, b"9876543210" * 4
    opened = Vault(Keyring(old)).open(before["id"], "identities.token", before["token"])
    done = await reseal(house.inn.owner, Vault(Keyring(new, old)), Keyring(new).key_id, lambda _line: None)
    assert done.sealed_anew >= 1
    assert not done.damaged
    after = await house.identity(subject)
    assert Vault(Keyring(new)).open(before["id"], "identities.token", after["token"]) == opened
    await reseal(house.inn.owner, Vault(Keyring(old, new)), Keyring(old).key_id, lambda _line: None)


async def test_a_worker_without_the_settings_of_an_issuer_suspends_nobody(
    house: House, browser: Browser, subject: str
) -> None:
    await house.acme.someone(subject, f"{subject}@example.org")
    await browser.sign_in("acme")
    services = house.inn.services
    house.inn.services = replace(services, issuers={})
    found = await house.recheck(subject)
    house.inn.services = services
    assert (found["suspended_at"], found["token"] is not None) == (None, True)


async def test_a_device_that_was_let_in_ends_with_the_account_that_let_it_in(
    house: House, browser: Browser, subject: str
) -> None:
    email = f"{subject}@example.org"
    await house.acme.someone(subject, email)
    await browser.sign_in("acme")
    cli = Program(house.inn, "innkeeper-cli")
    device = (await cli.post("/oauth/device_authorization")).json()
    fields = {**hidden(await browser.http.get("/device")), "user_code": device["user_code"]}
    person = browser.person((await house.account(email))["id"])
    await person.press(await browser.http.post("/device", data=fields), "allow")
    asked = {"grant_type": DEVICE, "device_code": device["device_code"]}
    tokens = (await cli.post("/oauth/token", **asked)).json()
    assert await works(house, tokens["access_token"])
    await house.acme.without(subject)
    await house.recheck(subject)

    async def stopped() -> bool:
        return not await works(house, tokens["access_token"])

    await eventually(stopped)
