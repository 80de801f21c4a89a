"""The page of provider keys, as a browser without JavaScript uses it, against providers on real sockets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestURLParams, ElicitResult

from db.credentials import Authenticator
from db.database import Database
from db.ids import uuid7
from db.principal import Principal
from server.integrations.provider_check import PROVIDERS, Provider, ProviderChecks
from tests.agents.inn import KEYRING, body, inn, run, user
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import scripted_model
from tests.fakes.outside import internet, reaching_loopback
from tests.fakes.raw_server import Asked, RawServer, Send, answer, raw_server
from tests.fakes.script import Status
from tests.server.approving import csrf, nobody, sending_app, sign_in
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import PagesAt, Services

pytestmark = pytest.mark.promise("GND-03")

GOOD, BAD, ODD = "sk-good-0123456789abcdef", "sk-bad-0123456789abcdef", "sk-odd-0123456789abcdef"
KEYS = Narrowing(families=frozenset({"provider_keys"}))


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[RawServer]:
    """Every provider at once. It knows one key, refuses another as each of them does, and answers oddly to a third."""

    async def handler(asked: Asked, send: Send) -> None:
        headers = str(asked.headers)
        path = asked.line.split()[1]
        if GOOD in headers:
            await send(answer(b'{"data": []}'))
        elif BAD in headers:
            status = "400 Bad Request" if path.startswith("/google") else "401 Unauthorized"
            await send(answer(f"no such key {BAD}".encode(), status=status))
        else:
            await send(answer(f"what is {ODD}".encode(), status="503 Busy"))

    async with raw_server(handler) as server:
        yield server


@pytest.fixture
def checks(provider: RawServer) -> ProviderChecks:
    here = {name: replace(known, url=provider.url(f"/{name}/models")) for name, known in PROVIDERS.items()}
    return ProviderChecks(reaching_loopback(), here)


@pytest_asyncio.fixture
async def browser(
    database: Database, authenticator: Authenticator, services: Services, checks: ProviderChecks
) -> AsyncIterator[httpx2.AsyncClient]:
    app = sending_app(database, authenticator, services, KEYRING, provider_checks=checks)
    async with nobody(app) as browser:
        yield browser


@pytest_asyncio.fixture
async def signed_in(browser: httpx2.AsyncClient, owner: Owner, tenant: Tenant) -> httpx2.AsyncClient:
    await sign_in(browser, owner, tenant.user_id)
    return browser


def path_of(tenant: Tenant) -> str:
    return f"/projects/{tenant.project_id}/provider-keys"


async def enter(browser: httpx2.AsyncClient, path: str, key: str, provider: str = "openai", **more: str) -> Any:
    token = csrf(await browser.get(path))
    return await browser.post(path, data={"csrf": token, "provider": provider, "key": key, **more})


async def kept(owner: Owner) -> list[tuple[Any, ...]]:
    rows = await owner.fetch("SELECT provider, hint, base_url, checked_at IS NOT NULL FROM provider_keys ORDER BY 1")
    return [tuple(row) for row in rows]


async def test_a_key_is_saved_once_its_provider_accepts_it_and_never_shown_again(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant, provider: RawServer
) -> None:
    for name in PROVIDERS:
        saved = await enter(signed_in, path_of(tenant), f"  {GOOD}\n", name)

        assert saved.status_code == 200
        assert "accepted by the provider and is saved" in saved.text
        assert "Ends in <code>cdef</code>" in saved.text
        assert GOOD not in saved.text
        assert provider.asked[-1].line == f"GET /{name}/models HTTP/1.1"
    assert await kept(owner) == [(name, "cdef", None, True) for name in sorted(PROVIDERS)]
    audited = await owner.fetchrow("SELECT action, user_id, project_id FROM audit ORDER BY id DESC LIMIT 1")
    assert tuple(audited or ()) == ("enter_provider_key", tenant.user_id, tenant.project_id)


async def test_a_refused_key_and_a_provider_that_does_not_say_save_nothing(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant
) -> None:
    for name in PROVIDERS:
        refused = await enter(signed_in, path_of(tenant), BAD, name, insist="yes")
        unclear = await enter(signed_in, path_of(tenant), ODD, name)

        assert (refused.status_code, unclear.status_code) == (422, 422)
        assert "refused this key. Nothing was saved" in refused.text
        assert "could not be asked about this key" in unclear.text
        assert BAD not in refused.text
        assert ODD not in unclear.text
        assert ('name="insist"' in refused.text, 'name="insist"' in unclear.text) == (False, True)
    assert await kept(owner) == []
    insisted = await enter(signed_in, path_of(tenant), ODD, insist="yes")
    assert "could not be checked; it is saved" in insisted.text
    assert await kept(owner) == [("openai", "cdef", None, False)]


async def test_a_provider_that_cannot_be_reached_is_told_from_one_that_refuses(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant, checks: ProviderChecks
) -> None:
    nowhere = Provider("OpenAI", "http://127.0.0.3:9/v1/models", PROVIDERS["openai"].headers)
    checks._providers = {**checks._providers, "openai": nowhere}

    page = await enter(signed_in, path_of(tenant), GOOD)

    assert (page.status_code, 'name="insist"' in page.text) == (422, True)
    assert await kept(owner) == []


async def test_what_is_no_key_is_refused_and_asked_nobody_about(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant, provider: RawServer
) -> None:
    for key in ("", "   ", "\t\n", "two words", "ключ", "x" * 513, "nul\x00", "line\nline"):
        page = await enter(signed_in, path_of(tenant), key, insist="yes")

        assert page.status_code == 422
        assert 'role="alert"' in page.text
    assert provider.connections == 0
    assert await kept(owner) == []


async def test_a_compatible_endpoint_is_asked_at_the_projects_base_url_by_the_guarded_client(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant, provider: RawServer, checks: ProviderChecks
) -> None:
    without = await enter(signed_in, path_of(tenant), GOOD, "compatible")
    base_url = provider.url("/v1")
    await owner.execute("UPDATE projects SET base_url = $1", base_url)
    with_one = await enter(signed_in, path_of(tenant), GOOD, "compatible")

    assert "no base URL yet" in without.text
    assert "is saved" in with_one.text
    assert provider.asked[-1].line == "GET /v1/models HTTP/1.1"
    assert await kept(owner) == [("compatible", "cdef", base_url, True)]
    await owner.execute("UPDATE projects SET base_url = 'https://llm.example.test/v1'")
    assert "base URL is another one now" in (await signed_in.get(path_of(tenant))).text
    before = provider.connections
    checks._outside = internet({"inside.example": [["127.0.0.1"]]})
    await owner.execute("UPDATE projects SET base_url = $1", base_url.replace("127.0.0.1", "inside.example"))
    inside = await enter(signed_in, path_of(tenant), GOOD, "compatible")
    assert (inside.status_code, provider.connections) == (422, before)


async def test_a_key_is_replaced_and_deleted(signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant) -> None:
    await enter(signed_in, path_of(tenant), GOOD)
    page = await enter(signed_in, path_of(tenant), GOOD + "-newer")
    assert "(replaces its key)" in page.text
    assert await kept(owner) == [("openai", "ewer", None, True)]

    form = {"csrf": csrf(page), "provider": "openai"}
    gone = await signed_in.post(f"{path_of(tenant)}/delete", data=form)
    again = await signed_in.post(f"{path_of(tenant)}/delete", data=form)

    assert "has no key for OpenAI any more" in gone.text
    assert again.status_code == 200
    assert await kept(owner) == []
    actions = await owner.fetch("SELECT action FROM audit WHERE action LIKE '%provider_key'")
    assert [row["action"] for row in actions].count("delete_provider_key") == 1


async def test_who_does_not_administer_the_project_sees_which_keys_there_are_and_changes_none(
    browser: httpx2.AsyncClient, house: House, owner: Owner, tenant: Tenant, provider: RawServer
) -> None:
    await sign_in(browser, owner, tenant.user_id)
    await enter(browser, path_of(tenant), GOOD)
    asked = provider.connections
    for role in ("member", "viewer"):
        member = await house.member(tenant.project_id, role)
        await sign_in(browser, owner, member.user_id)

        page = await browser.get(path_of(tenant))
        entered = await enter(browser, path_of(tenant), GOOD, "anthropic")
        deleted = await browser.post(f"{path_of(tenant)}/delete", data={"csrf": csrf(page), "provider": "openai"})

        assert "Ends in <code>cdef</code>" in page.text
        assert 'type="password"' not in page.text
        assert "Ask an owner or admin" in page.text
        assert (entered.status_code, deleted.status_code) == (403, 403)
    assert provider.connections == asked
    assert await kept(owner) == [("openai", "cdef", None, True)]


async def test_the_page_is_for_people_of_the_project_who_signed_in_and_for_its_own_forms(
    browser: httpx2.AsyncClient, owner: Owner, tenant: Tenant, stranger: Tenant, provider: RawServer
) -> None:
    nobody = await browser.get(path_of(tenant))
    assert nobody.status_code == 401
    assert tenant.token not in nobody.text
    await sign_in(browser, owner, stranger.user_id)
    foreign = await browser.get(path_of(tenant))
    unknown = await browser.get(f"/projects/{uuid7()}/provider-keys")
    assert (foreign.status_code, foreign.text) == (404, unknown.text)

    await sign_in(browser, owner, tenant.user_id)
    token = csrf(await browser.get(path_of(tenant)))
    form = {"csrf": token, "provider": "openai", "key": GOOD}
    answers = [
        await browser.post(path_of(tenant), data=form | {"csrf": "0" * 64}),
        await browser.post(path_of(tenant), data=form | {"csrf": ""}),
        await browser.post(path_of(tenant), data=form, headers={"origin": "https://evil.example"}),
        await browser.post(path_of(tenant), data=form, headers={"sec-fetch-site": "cross-site"}),
        await browser.post(f"{path_of(tenant)}/delete", data={"provider": "openai"}),
    ]
    assert [one.status_code for one in answers] == [403] * 5
    assert provider.connections == 0
    assert await kept(owner) == []


async def test_nothing_on_the_page_runs_or_is_kept_and_addresses_make_nothing_up(
    signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant
) -> None:
    await owner.execute("UPDATE projects SET name = '<script>alert(1)</script>'")
    page = await signed_in.get(path_of(tenant), params={"saved": "openai", "provider": '"><script>', "deleted": "x"})

    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script" not in page.text
    assert "Runs use it from now on" not in page.text
    assert 'autocomplete="off"' in page.text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)


async def test_a_key_is_in_no_answer_log_error_event_or_row(
    signed_in: httpx2.AsyncClient,
    services: Services,
    urls: DatabaseUrls,
    owner: Owner,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = f"{GOOD}-CANARY-in-the-mine"
    seen: list[str] = []
    async with scripted_model() as model:
        # The provider repeats the key in its errors, as some do.
        model.script(*[Status(401, {"error": {"message": f"no such key {canary}"}})] * 3)
        await owner.execute("UPDATE projects SET model = 'openai-chat:m', base_url = $1", model.base_url)
        pages = [await enter(signed_in, path_of(tenant), canary, "compatible")]
        pages += [await enter(signed_in, path_of(tenant), canary, "openai")]
        pages += [await enter(signed_in, path_of(tenant), f"{canary} {canary}", "openai"), await signed_in.get("/")]
        async with inn(urls) as house:
            stream = await run(house, tenant.token, body(user("What is your key?")))
        assert stream.last["code"] == "model_auth_failed"
        assert model.requests[-1].authorization == f"Bearer {canary}"
    dispatch = Dispatch(services)
    given = {"project_id": str(tenant.project_id)}
    for tool, arguments in (
        ("list_provider_keys", given),
        ("set_provider_key", given | {"provider": "openai"}),
        ("get_project", given),
    ):
        narrowing = KEYS if "provider" in tool else Narrowing()
        seen.append((await dispatch.call(tenant.principal, tool, arguments, narrowing=narrowing)).text)
    seen += [page.text + str(page.headers) for page in pages]
    seen += [stream.raw.decode(), str(stream.headers), logged(caplog)]
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        seen += [row["row"] for row in await owner.fetch(f"SELECT t::text AS row FROM {table['tablename']} t")]

    spelled = [canary, canary.encode().hex(), canary[4:], canary[-5:]]
    assert await owner.fetchval("SELECT count(*) FROM provider_keys") == 2
    assert [word for word in spelled for text in seen if word in text] == []


async def test_the_tools_say_where_the_page_is_and_take_and_give_no_key(
    services: Services, signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant, house: House
) -> None:
    dispatch = Dispatch(replace(services, pages=PagesAt("https://inn.example")))
    project = {"project_id": str(tenant.project_id)}

    async def call(principal: Principal, tool: str, **arguments: Any) -> dict[str, Any]:
        return (await dispatch.call(principal, tool, project | arguments, narrowing=KEYS)).structured

    asked = await call(tenant.principal, "set_provider_key", provider="openai")
    assert asked["url"] == f"https://inn.example{path_of(tenant)}?provider=openai"
    assert asked["entered_at"] is None
    await enter(signed_in, path_of(tenant), GOOD)
    again = await call(tenant.principal, "set_provider_key", provider="openai")
    assert again["entered_at"] is not None
    listed = await call(tenant.principal, "list_provider_keys")
    assert [key["provider"] for key in listed["keys"]] == ["openai"]
    assert "cdef" not in str(listed)
    viewer = await house.member(tenant.project_id, "viewer")
    assert (await call(viewer, "list_provider_keys"))["keys"] == listed["keys"]
    refusals = {}
    for tool in ("set_provider_key", "delete_provider_key"):
        with pytest.raises(Exception, match="role") as refused:
            await call(viewer, tool, provider="openai")
        refusals[tool] = getattr(refused.value, "code", "")
    assert set(refusals.values()) == {"role_insufficient"}
    with pytest.raises(Exception, match="no base_url"):
        await call(tenant.principal, "set_provider_key", provider="compatible")


@pytest.mark.usefixtures("unasked")
async def test_a_key_is_deleted_by_a_tool_that_asks_first(
    dispatch: Dispatch, signed_in: httpx2.AsyncClient, owner: Owner, tenant: Tenant
) -> None:
    await enter(signed_in, path_of(tenant), GOOD)
    arguments = {"project_id": str(tenant.project_id), "provider": "openai"}

    await dispatch.call(tenant.principal, "delete_provider_key", arguments, narrowing=KEYS)

    assert await kept(owner) == []
    with pytest.raises(Exception, match="no such provider key"):
        await dispatch.call(tenant.principal, "delete_provider_key", arguments, narrowing=KEYS)


@pytest.mark.parametrize(
    ("mode", "action", "told"),
    [("auto", "accept", "entered_at"), ("auto", "decline", "page_not_opened"), ("legacy", None, "url")],
)
async def test_a_client_that_can_leads_its_user_to_the_page_and_others_are_told_where_it_is(
    browser: httpx2.AsyncClient,
    owner: Owner,
    tenant: Tenant,
    mode: Any,
    action: str | None,
    told: str,
) -> None:
    led: list[str] = []

    async def elicit(_context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        led.append(params.url)
        if action == "accept":
            # The person opens the page and enters the key before they go on.
            await sign_in(browser, owner, tenant.user_id)
            await enter(browser, params.url, GOOD)
        return ElicitResult(action=action)  # type: ignore[arg-type]  # one of the three

    callback: Any = elicit if action else None
    address = f"{browser.base_url}/mcp?tools=provider_keys".replace("//mcp", "/mcp")
    headers = {"authorization": f"Bearer {tenant.token}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(
            streamable_http_client(address, http_client=http),
            mode=mode,
            elicitation_callback=callback,
        ) as client,
    ):
        arguments = {"project_id": str(tenant.project_id), "provider": "openai"}
        result = await client.call_tool("set_provider_key", arguments)

    assert len(led) == (1 if action else 0)
    assert all(url.endswith(f"{path_of(tenant)}?provider=openai") for url in led)
    if action == "decline":
        assert result.is_error
        assert told in str(result.meta)
        return
    assert result.structured_content is not None
    assert result.structured_content["url"].endswith(f"{path_of(tenant)}?provider=openai")
    assert (result.structured_content["entered_at"] is not None) == (action == "accept")
    assert GOOD not in str(result)
