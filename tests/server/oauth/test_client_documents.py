"""Clients that are known by the document at their client_id: fetched, checked, kept for a while, and shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from server.app import create_app
from tests.fakes.outside import PUBLIC_HOST, internet
from tests.fakes.raw_server import Asked, RawServer, Send, answer, raw_server
from tests.fakes.tls import authority
from tests.server.edge_services import served
from tests.server.oauth.people import BACK, Inn, Person, Program, answered, call
from tools.dispatch import Dispatch

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-10", "IDN-14")]
HOST = "app.example"


class Publisher:
    """Whoever describes clients on the web: ``documents`` by path; ``headers`` go with all of them."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.server = RawServer(PUBLIC_HOST)

    def publish(self, path: str = "/client.json", **said: Any) -> str:
        client_id = self.server.url(path, host=HOST, scheme="https")
        self.documents[path] = {
            "client_id": client_id, "client_name": "A described app", "redirect_uris": [BACK], **said,
        }  # fmt: skip
        return client_id

    @property
    def fetched(self) -> int:
        return len(self.server.asked)

    async def __call__(self, asked: Asked, send: Send) -> None:
        found = self.documents.get(asked.line.split(" ")[1])
        if isinstance(found, bytes):
            await send(found)
        elif found is None:
            await send(answer(b"{}", status="404 Not Found", connection="close"))
        else:
            await send(answer(json.dumps(found).encode(), connection="close", **self.headers))


@asynccontextmanager
async def publishing(inn: Inn) -> AsyncIterator[tuple[Inn, Publisher]]:
    """The house with a way to the internet, on which there is one publisher."""
    issued = authority(HOST)
    publisher = Publisher()
    outside = internet({HOST: [[PUBLIC_HOST]]}, trust=issued.client)
    tools = replace(inn.services.dispatch.services, outside=outside)
    services = replace(inn.services, dispatch=Dispatch(tools))
    async with (
        raw_server(publisher, host=PUBLIC_HOST, tls=issued.server) as publisher.server,
        served(create_app(services)) as (host, port),
    ):
        yield Inn(f"http://{host}:{port}", inn.owner, services), publisher
    await outside.aclose()


async def test_a_described_client_is_shown_with_its_host_let_in_and_asked_each_time(inn: Inn) -> None:
    async with publishing(inn) as (here, publisher), here.person() as person:
        program = Program(here, publisher.publish())
        page = await person.browser.get(program.address())
        assert page.status_code == 200, page.text
        assert "A described app" in page.text
        assert f"described at <strong>{HOST}:{publisher.server.port}</strong>" in page.text
        assert "program on this very computer" in page.text
        tokens = (await program.exchange(answered(await person.press(page, "allow"))["code"])).json()
        assert (await call(here, tokens["access_token"], "list_projects")).status_code == 200
        assert (await program.refresh(tokens["refresh_token"])).status_code == 200
        again = await person.browser.get(program.address())
        assert again.status_code == 200, "any program here may say that it is this one: the person is asked"
        assert publisher.fetched == 1

        web = "https://app.example/back"
        site = Program(here, publisher.publish("/site.json", redirect_uris=[web]), redirect_uri=web)
        await site.code(person)
        assert (await person.browser.get(site.address())).status_code == 303, "its answers go to its own host alone"


async def test_a_document_is_fetched_again_when_it_is_old_and_outlives_an_outage(inn: Inn, person: Person) -> None:
    async with publishing(inn) as (here, publisher), here.person() as someone:
        publisher.headers = {"cache_control": "max-age=600"}
        program = Program(here, publisher.publish("/aging.json"))
        kept = "SELECT fresh_until - now() FROM oauth_clients WHERE client_id = $1"
        aged = "UPDATE oauth_clients SET fresh_until = now() WHERE client_id = $1"
        assert (await someone.browser.get(program.address())).status_code == 200
        remaining = await here.owner.fetchval(kept, program.client_id)
        assert timedelta(minutes=9) < remaining <= timedelta(minutes=10)

        publisher.publish("/aging.json", client_name="Renamed", redirect_uris=[BACK, "https://app.example/new"])
        assert "Renamed" not in (await someone.browser.get(program.address())).text
        await here.owner.execute(aged, program.client_id)
        assert "Renamed" in (await someone.browser.get(program.address())).text
        moved = await someone.browser.get(program.address(redirect_uri="https://app.example/new"))
        assert moved.status_code == 200

        await here.owner.execute(aged, program.client_id)
        publisher.documents["/aging.json"] = b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"
        broken = await someone.browser.get(program.address())
        assert (broken.status_code, "answers with 500" in broken.text) == (400, True)
    async with publishing(inn) as (elsewhere, _publisher), elsewhere.person() as someone:
        # Another port, so nobody listens at the address any more.
        away = await someone.browser.get(Program(elsewhere, program.client_id).address())
        assert (away.status_code, "Renamed" in away.text) == (200, True)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"client_id": "https://app.example/other.json"}, "another client"),
        ({"client_id": None}, "another client"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": ["http://app.example/back"]}, "redirect_uri"),
        ({"client_secret": "x"}, "secret"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "secret"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "secret"),
        ({"grant_types": ["implicit"]}, "grant_types"),
    ],
)
async def test_a_document_that_is_not_in_order_lets_nobody_in(
    inn: Inn, person: Person, said: dict[str, Any], why: str
) -> None:
    async with publishing(inn) as (here, publisher), here.person() as someone:
        page = await someone.browser.get(Program(here, publisher.publish(**said)).address())
        assert page.status_code == 400
        assert "location" not in page.headers
        assert why in page.text


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"[]"),
        answer(b"{"),
        answer(b"x" * 20_000),
        answer(b"{}", content_type="text/html"),
        answer(b"", status="302 Found", location=f"https://{HOST}/elsewhere.json"),
        answer(b"", status="404 Not Found"),
    ],
)
async def test_what_is_no_document_is_none(inn: Inn, person: Person, raw: bytes) -> None:
    async with publishing(inn) as (here, publisher), here.person() as someone:
        program = Program(here, publisher.publish())
        publisher.documents["/client.json"] = raw
        page = await someone.browser.get(program.address())
        assert page.status_code == 400
        assert "cannot be used" in page.text
        assert publisher.fetched <= 1


async def test_the_house_fetches_no_client_id_from_inside(inn: Inn, person: Person) -> None:
    for client_id in ("https://127.0.0.1/client.json", "https://localhost/c.json", "https://169.254.169.254/x"):
        page = await person.browser.get(Program(inn, client_id).address())
        assert page.status_code == 400
        assert "127.0.0.1" not in page.text.replace(inn.url, "")


async def test_a_server_without_a_way_outside_says_so_and_knows_no_documents(inn: Inn, person: Person) -> None:
    async with served(create_app(replace(inn.services, client_documents=False))) as (host, port):
        here = Inn(f"http://{host}:{port}", inn.owner, inn.services)
        async with here.person() as someone, httpx2.AsyncClient(base_url=here.url, trust_env=False, timeout=60) as http:
            told = (await http.get("/.well-known/oauth-authorization-server")).json()
            assert told["client_id_metadata_document_supported"] is False
            page = await someone.browser.get(Program(here, "https://app.example/client.json").address())
            assert (page.status_code, "does not know" in page.text) == (400, True)
