"""Limits of those who have no key yet: strangers run into them, honest people next to them do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from server.app import create_app
from server.http.proxies import TrustedProxies
from server.limits.newcomers import DEVICE_CODES, GUESSES, REGISTRATIONS, Newcomers
from server.settings.loading import SettingsError, load
from tests.server.edge_services import served
from tests.server.oauth.people import BACK, Inn, Program, hidden

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-14", "IDN-10", "IDN-03")]


@asynccontextmanager
async def strict(inn: Inn, proxies: str = "127.0.0.1") -> AsyncIterator[Inn]:
    """The house as in production, behind a proxy on this machine; its clock does not move."""
    newcomers = Newcomers(inn.services.database, clock=lambda: 0.0)
    settings = load({"INNKEEPER_TRUSTED_PROXIES": proxies}, environment="development")
    app = TrustedProxies(create_app(replace(inn.services, newcomers=newcomers)), settings.sign_in.trusted_proxies)
    async with served(app) as (host, port):
        yield Inn(f"http://{host}:{port}", inn.owner, inn.services)


def from_address(inn: Inn, address: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=inn.url, trust_env=False, headers={"x-forwarded-for": address}, timeout=30)


async def test_an_address_registers_so_many_clients_and_others_go_on(inn: Inn) -> None:
    async with strict(inn) as here:
        wanted = {"redirect_uris": [BACK]}
        async with from_address(here, "203.0.113.1") as flood:
            answers = [await flood.post("/oauth/register", json=wanted) for _ in range(int(REGISTRATIONS.burst) + 2)]
        assert [answer.status_code for answer in answers[:-2]] == [201] * int(REGISTRATIONS.burst)
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        async with from_address(here, "203.0.113.2") as other:
            assert (await other.post("/oauth/register", json=wanted)).status_code == 201


async def test_wrong_tokens_are_slowed_down_and_right_ones_of_the_same_address_never(inn: Inn) -> None:
    async with strict(inn) as here, here.person() as person, from_address(here, "203.0.113.3") as office:
        program = Program(here, (await office.post("/oauth/register", json={"redirect_uris": [BACK],
                          "token_endpoint_auth_method": "none"})).json()["client_id"])  # fmt: skip
        tokens = await program.tokens(person)
        form = {"grant_type": "refresh_token", "client_id": program.client_id}
        guess = {**form, "refresh_token": "ik_rt_" + "0" * 49}
        statuses = [(await office.post("/oauth/token", data=guess)).status_code for _ in range(int(GUESSES.burst) + 3)]
        assert statuses[0] == 400
        assert statuses[-1] == 429
        right = await office.post("/oauth/token", data={**form, "refresh_token": tokens["refresh_token"]})
        assert right.status_code == 200, "the honest behind the same address are not locked out"


async def test_codes_of_devices_are_guessed_a_few_times_and_the_right_one_still_counts(inn: Inn) -> None:
    async with strict(inn) as here, here.person() as person:
        device = (await Program(here, "innkeeper-cli").post("/oauth/device_authorization")).json()
        fields = hidden(await person.browser.get("/device"))
        tries = [
            await person.browser.post("/device", data={**fields, "user_code": "BCDF-BCDF"})
            for _ in range(int(DEVICE_CODES.burst) + 2)
        ]
        assert (tries[0].status_code, tries[-1].status_code) == (404, 429)
        right = await person.browser.post("/device", data={**fields, "user_code": device["user_code"]})
        assert right.status_code == 200


async def test_only_a_trusted_proxy_says_where_a_request_comes_from() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["client"][0])

    trusted = load({"INNKEEPER_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}, environment="development").sign_in.trusted_proxies
    for nearest, forwarded in (
        ("192.0.2.7", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2"),
        ("10.0.0.1", "spoofed, 203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, nonsense"),
        ("::1", "2001:db8::5"),
        ("10.0.0.1", ""),
    ):
        headers = [(b"x-forwarded-for", forwarded.encode())]
        scope = {"type": "http", "client": (nearest, 1), "headers": headers}
        await TrustedProxies(app, trusted)(scope, None, None)  # type: ignore[arg-type]  # never called
    assert seen == [
        "192.0.2.7", "203.0.113.9", "203.0.113.9", "203.0.113.9", "10.0.0.1", "2001:db8::5", "10.0.0.1",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="must be networks"):
        load({"INNKEEPER_TRUSTED_PROXIES": "everybody"}, environment="development")
