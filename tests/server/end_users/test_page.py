"""The page on which a project says whose word it takes, as a browser without JavaScript uses it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from db import accounts
from db.ids import uuid7
from server.end_user_findings import end_user_findings
from tests.conftest import eventually
from tests.server.end_users.issuers import AUDIENCE, Issuer, rsa
from tests.server.end_users.products import PAGE, SECRET, House, Product
from tests.server.oauth.people import Inn, Person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-20")]


@pytest_asyncio.fixture(loop_scope="module")
async def person(house: House, product: Product) -> AsyncIterator[Person]:
    """Whose project the product is."""
    inn = Inn(house.url, house.owner, house.services)
    async with inn.browser() as browser:
        person = Person(inn, browser, product.user_id, {"Shop": product.project_id})
        await person.sign_in()
        yield person


async def send(person: Person, project: UUID, action: str = "sources", **fields: str) -> httpx2.Response:
    page = f"/projects/{project}/end-users"
    shown = await person.browser.get(page)
    assert shown.status_code == 200, shown.text
    csrf = re.findall(r'name="csrf" value="([^"]+)"', shown.text)[-1]
    return await person.browser.post(f"{page}/{action}", data={"csrf": csrf, **fields})


async def test_what_a_person_adds_on_the_page_is_taken_from_then_on(
    person: Person, product: Product, issuer: Issuer
) -> None:
    project = product.project_id
    assert (await product.exchange(issuer.token())).status_code == 400
    for fields in (
        {"kind": "issuer", "issuer-issuer": issuer.url, "issuer-audience": AUDIENCE},
        {"kind": "hs256", "hs256-secret": SECRET, "hs256-issuer": "https://own.example"},
        {"kind": "public_key", "public_key-public_key": rsa().as_pem(private=False).decode()},
        {"kind": "userinfo", "userinfo-url": f"{issuer.root}/userinfo"},
        {"kind": "none", "none-understood": "yes"},
    ):
        answer = await send(person, project, **fields)
        assert answer.status_code == 303, answer.text
    assert (await product.exchange(issuer.token())).status_code == 200
    page = await person.browser.get(f"/projects/{project}/end-users")
    assert issuer.url in page.text
    assert "Anybody can say that they are anybody" in page.text
    assert SECRET not in page.text
    ids = re.findall(r'\bid="([^"]+)"', page.text)
    assert len(ids) == len(set(ids))
    sealed = "SELECT sealed FROM token_sources WHERE kind = 'hs256' AND project_id = $1"
    assert SECRET.encode() not in await product.house.owner.fetchval(sealed, project)
    second = await send(person, project, kind="userinfo", **{"userinfo-url": f"{issuer.root}/another"})
    assert "asks one userinfo endpoint" in second.text
    first = re.findall(r'name="source" value="([^"]+)"', page.text)[0]
    on_its_word, visitor = await product.token(issuer.token()), (await product.visitor()).json()["access_token"]
    assert [await status(product, token) for token in (on_its_word, visitor)] == [404, 404]
    assert (await send(person, project, "sources/delete", source=first)).status_code == 303
    await eventually(lambda: ended(product, on_its_word))
    assert await status(product, visitor) == 404, "which nobody vouched for"
    assert (await product.exchange(issuer.token(aud="x"))).status_code == 200, "anybody's word is still taken"
    acts = await product.house.owner.fetch(
        "SELECT action FROM audit WHERE project_id = $1 AND action LIKE 'token_source:%' ORDER BY id", project
    )
    assert [row["action"] for row in acts] == ["token_source:added"] * 5 + ["token_source:deleted"]


async def test_what_is_no_source_is_said_where_it_is_and_saves_nothing(
    person: Person, product: Product, issuer: Issuer
) -> None:
    private = rsa().as_pem(private=True).decode()
    away = "http://127.0.0.1:64999"
    for fields, said in (
        ({"kind": "issuer", "issuer-audience": "x"}, "This is needed."),
        ({"kind": "issuer", "issuer-issuer": issuer.url}, "This is needed."),
        ({"kind": "issuer", "issuer-issuer": "ftp://x", "issuer-audience": "x"}, "http"),
        ({"kind": "issuer", "issuer-issuer": away, "issuer-audience": "x"}, "Save it although its keys cannot be had"),
        ({"kind": "issuer", "issuer-issuer": f"{issuer.url}?a", "issuer-audience": "x"}, "without a query"),
        ({"kind": "issuer", "issuer-issuer": "http://id.example", "issuer-audience": "x"}, "must begin with https://"),
        ({"kind": "userinfo", "userinfo-url": "http://id.example/me"}, "must begin with https://"),
        ({"kind": "hs256", "hs256-secret": "short"}, "at least 32 bytes"),
        ({"kind": "hs256", "hs256-secret": private[:60].replace("\n", " ")}, "a key of another kind"),
        ({"kind": "hs256", "hs256-secret": SECRET, "hs256-issuer": "~anonymous"}, "no name of an issuer"),
        ({"kind": "public_key", "public_key-public_key": private}, "Never give a private key"),
        ({"kind": "userinfo", "userinfo-url": "http://169.254.169.254/"}, "169.254"),
        ({"kind": "userinfo", "userinfo-url": "x" * 501}, "at most 500 characters"),
        ({"kind": "none"}, "Say that you know"),
    ):
        answer = await send(person, product.project_id, **fields)
        assert answer.status_code == 422, (fields, answer.text)
        assert said in answer.text, (fields, answer.text.partition("Nothing was saved")[2][:300])
        assert "PRIVATE" not in answer.text or "public_key" in fields["kind"]
    assert (await send(person, product.project_id, kind="x")).status_code == 422
    counted = "SELECT count(*) FROM token_sources WHERE project_id = $1"
    assert await product.house.owner.fetchval(counted, product.project_id) == 0
    insisted = {"kind": "issuer", "issuer-issuer": away, "issuer-audience": "x", "insist": "yes"}
    assert (await send(person, product.project_id, **insisted)).status_code == 303
    assert "one like this already" in (await send(person, product.project_id, **insisted)).text


async def test_the_switches_are_kept_and_anybodys_word_is_warned_of(person: Person, product: Product) -> None:
    page = f"/projects/{product.project_id}/end-users"
    shown = (await person.browser.get(page)).text
    assert 'name="anonymous_sessions" value="yes" checked' in shown
    assert 'name="user_keys_from_browsers" value="yes">' in shown
    visitor = (await product.visitor()).json()["access_token"]
    assert (await send(person, product.project_id, "rules", user_keys_from_browsers="yes")).status_code == 303
    await eventually(lambda: ended(product, visitor))
    shown = (await person.browser.get(page)).text
    assert 'name="anonymous_sessions" value="yes">' in shown
    assert 'name="user_keys_from_browsers" value="yes" checked' in shown
    assert (await product.visitor()).json()["error"] == "unauthorized_client"
    warned = [finding.said async for finding in end_user_findings(product.house.owner)]
    assert "anybody's word" in warned[0]


async def test_only_owners_and_admins_change_it_and_strangers_see_nothing(
    person: Person, product: Product, house: House
) -> None:
    project = product.project_id
    heir = await accounts.create_user(house.owner, f"{uuid7().hex}@example.test", "Heir")
    await house.owner.execute(
        "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'owner')", heir, project
    )
    await house.owner.execute(
        "UPDATE project_members SET role = 'member' WHERE project_id = $1 AND user_id = $2", project, product.user_id
    )
    page = await person.browser.get(f"/projects/{project}/end-users")
    assert "Ask an owner or admin" in page.text
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page.text)[-1]
    for action in ("sources", "sources/delete", "rules"):
        answer = await person.browser.post(
            f"/projects/{project}/end-users/{action}", data={"csrf": csrf, "kind": "none", "none-understood": "yes"}
        )
        assert answer.status_code == 403, action
        no_csrf = await person.browser.post(f"/projects/{project}/end-users/{action}", data={"kind": "none"})
        assert no_csrf.status_code in (400, 403)
    assert (await person.browser.get(f"/projects/{uuid7()}/end-users")).status_code == 404


async def status(product: Product, token: str) -> int:
    """What is said to a token that asks for a run which is not there: 404 to one that lives."""
    async with product.house.http(PAGE, authorization=f"Bearer {token}") as page:
        return (await page.get(f"/runs/{uuid7()}")).status_code


async def ended(product: Product, token: str) -> bool:
    return await status(product, token) == 401
