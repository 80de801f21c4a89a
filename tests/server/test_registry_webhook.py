"""Webhooks of a registry's sources: who may call them, and that a delivery counts once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette

from db.database import Database
from db.ids import uuid7
from db.registry_sync import SECRET
from server.commands.sources import new_secret
from server.http import registry_webhook
from server.keyring import Keyring
from server.vault import Vault
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.forge import forge
from tests.fakes.openai_server import scripted_model
from tests.server.command import run
from tests.server.test_serve import environ_of
from tests.serving import ROOT_SECRET, house_on_socket, scripted
from tests.tools.shelf import item
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

pytestmark = pytest.mark.promise("REG-04")
BODY = b'{"ref": "refs/heads/main",\n "note": "\xc3\xbc"}'
KEYRING = Keyring(ROOT_SECRET.encode())


@dataclass
class WebhookHouse:
    database: Database
    keyring: Keyring = KEYRING


@dataclass
class Sender:
    """A forge that sends webhooks of one source, with its secret."""

    http: httpx2.AsyncClient
    source_id: UUID
    secret: str

    async def send(self, headers: dict[str, str], body: bytes = BODY) -> httpx2.Response:
        return await self.http.post(f"/webhooks/registry/{self.source_id}", content=body, headers=headers)

    def hub(self, delivery: str, body: bytes = BODY, secret: str | None = None) -> dict[str, str]:
        signature = hmac.new((secret or self.secret).encode(), body, hashlib.sha256).hexdigest()
        return {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": delivery, "x-github-event": "push"}

    def standard(
        self, delivery: str, *, body: bytes = BODY, secret: str | None = None, late: timedelta = timedelta(0)
    ) -> dict[str, str]:
        moment = datetime.now(UTC) - late
        signature = Webhook(secret or self.secret).sign(delivery, moment, body.decode())
        return {
            "webhook-id": delivery,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signature,
        }


@pytest_asyncio.fixture
async def sender(
    database: Database, dispatch: Dispatch, tenant: Tenant, owner: Owner, unasked: None
) -> AsyncIterator[Sender]:
    given = {"project_id": str(tenant.project_id), "url": "https://registry.example/r/registry.json"}
    family = Narrowing(families=frozenset({"sync"}))
    made = await dispatch.call(tenant.principal, "create_registry_source", given, narrowing=family)
    source_id, secret = UUID(made.structured["id"]), new_secret()
    assert made.structured["webhook"].endswith(f"/webhooks/registry/{source_id}")
    assert made.structured["has_secret"] is False
    sealed = Vault(KEYRING).seal(tenant.project_id, SECRET, secret, str(source_id))
    await owner.execute("UPDATE registry_sources SET secret = $1, secret_at = now()", sealed)
    app = Starlette(routes=registry_webhook.routes(WebhookHouse(database)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://house") as http:
        yield Sender(http, source_id, secret)


async def counted(owner: Owner) -> tuple[int, int]:
    """Syncs and jobs that there are."""
    return (
        await owner.fetchval("SELECT count(*) FROM registry_syncs"),
        await owner.fetchval("SELECT count(*) FROM ops.pgqueuer WHERE entrypoint = 'sync_registry'"),
    )


async def test_a_signed_delivery_queues_one_sync_however_often_it_comes(sender: Sender, owner: Owner) -> None:
    for make in (sender.hub, sender.standard):
        await owner.execute("DELETE FROM registry_syncs")
        first = await sender.send(make("delivery-1"))
        assert first.status_code == 202
        assert first.json()["replayed"] is False
        answers = await asyncio.gather(*(sender.send(make("delivery-1")) for _ in range(5)))
        assert {(one.status_code, one.json()["replayed"], one.json()["sync_id"]) for one in answers} == {
            (200, True, first.json()["sync_id"])
        }
        assert await counted(owner) == (1, 1)
        assert (await sender.send(make("delivery-2"))).status_code == 202
        assert await counted(owner) == (2, 1)


async def test_what_is_not_signed_with_the_sources_secret_is_refused_and_tells_nothing(
    sender: Sender, owner: Owner
) -> None:
    other = new_secret()
    late, early = timedelta(minutes=5, seconds=2), timedelta(minutes=-5, seconds=-2)
    tampered = BODY.replace(b"main", b"evil")
    standard = sender.standard("d")
    tries: list[tuple[dict[str, str], bytes]] = [
        ({}, BODY),
        (sender.hub("d", secret=other), BODY),
        (sender.hub("d"), tampered),
        (sender.hub("d"), json.dumps(json.loads(BODY)).encode()),
        ({**sender.hub("d"), "x-hub-signature-256": "sha256="}, BODY),
        ({"x-hub-signature": sender.hub("d")["x-hub-signature-256"]}, BODY),
        (sender.standard("d", secret=other), BODY),
        (standard, tampered),
        (sender.standard("d", late=late), BODY),
        (sender.standard("d", late=early), BODY),
        ({**standard, "webhook-id": "e"}, BODY),
        ({**standard, "webhook-timestamp": str(int(standard["webhook-timestamp"]) + 1)}, BODY),
        ({**standard, "webhook-timestamp": "nan"}, BODY),
        ({**standard, "webhook-signature": "v1,%%%"}, BODY),
        ({**standard, "webhook-signature": "nonsense"}, BODY),
        (standard, b"\xff\xfe"),
        # A Standard Webhooks signature that is wrong is not made good by the other kind.
        ({**sender.standard("d", secret=other), **sender.hub("d")}, BODY),
    ]
    answers = [await sender.send(headers, body) for headers, body in tries]
    absent = await sender.http.post(f"/webhooks/registry/{uuid7()}", content=BODY, headers=sender.hub("d"))
    await owner.execute("UPDATE registry_sources SET secret = NULL")
    secretless = await sender.send(sender.hub("d"))
    assert {(one.status_code, one.content) for one in (*answers, absent, secretless)} == {(401, answers[0].content)}
    assert await counted(owner) == (0, 0)


async def test_one_of_several_signatures_suffices_and_five_minutes_are_tolerated(sender: Sender, owner: Owner) -> None:
    headers = sender.standard("a", late=timedelta(minutes=4, seconds=50))
    assert (await sender.send(headers)).status_code == 202
    rotated = sender.standard("b")
    former = sender.standard("b", secret=new_secret())["webhook-signature"]
    rotated["webhook-signature"] = f"v1a,AAAA {former} {rotated['webhook-signature']}"
    assert (await sender.send(rotated)).status_code == 202
    assert await counted(owner) == (2, 1)


async def test_a_forges_ping_and_a_delivery_without_a_name_are_understood(sender: Sender, owner: Owner) -> None:
    ping = await sender.send({**sender.hub("p"), "x-github-event": "ping"})
    assert (ping.status_code, ping.json()) == (200, {"pong": True})
    assert await counted(owner) == (0, 0)
    nameless = {"x-hub-signature-256": sender.hub("x")["x-hub-signature-256"]}
    assert [(await sender.send(nameless)).status_code for _ in range(2)] == [202, 200]
    assert await counted(owner) == (1, 1)


async def test_a_webhook_publishes_what_a_source_has_in_the_running_house(
    urls: DatabaseUrls, tenant: Tenant, owner: Owner, tmp_path: Path, unasked: None
) -> None:
    headers = {"authorization": f"Bearer {tenant.token}", "accept": "application/json, text/event-stream"}

    async def called(http: httpx2.AsyncClient, mcp: str, tool: str, **arguments: Any) -> dict[str, Any]:
        params = {"name": tool, "arguments": {"project_id": str(tenant.project_id), **arguments}}
        answer = await http.post(mcp, json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        result = answer.json()["result"]
        assert not result.get("isError"), result
        found: dict[str, Any] = result["structuredContent"]
        return found

    async with (
        forge() as upstream,
        scripted_model() as model,
        house_on_socket(
            urls,
            scripted(model.base_url),
            tmp_path / "files",
            work=True,
            settings={"INNKEEPER_ALLOW_PRIVATE_URLS": "true"},
        ) as served,
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
    ):
        upstream.serve("registry.json", {"items": [item("card", "const a = 1")]})
        mcp = f"{served.mcp}?tools=sync"
        source = await called(http, mcp, "create_registry_source", url=f"{upstream.url}/registry.json")
        environ = {**environ_of(urls), "DATABASE_OWNER_URL": urls.owner, "INNKEEPER_ROOT_SECRET": ROOT_SECRET}
        made = await run("sources", "secret", source["id"], "--json", cwd=tmp_path, environ=environ)
        assert made.code == 0, made.err
        secret = json.loads(made.out)["secret"]
        assert secret.encode() not in await owner.fetchval("SELECT secret FROM registry_sources")
        signature = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
        sent = {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": "1"}
        async with httpx2.AsyncClient(timeout=60) as sender:
            received = await sender.post(source["webhook"], content=BODY, headers=sent)
        assert received.status_code == 202, received.text

        async def synced() -> bool:
            report = await called(http, mcp, "get_registry_sync", sync_id=received.json()["sync_id"])
            return bool(report["state"] == "succeeded" and report["published"] == 1)

        await eventually(synced, 30)
        read = await called(http, served.mcp, "get_component", name="card", file="ui/card.tsx")
        assert read["text"] == "const a = 1"
