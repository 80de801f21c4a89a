"""Files through the whole product: tickets over MCP, bytes over HTTP, jobs, presigned places, events of a bucket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio

from db.ids import uuid7
from server.model_choice import ModelChoice
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually
from tests.serving import house_on_socket
from tests.storage.desk import Desk
from tests.storage.weed import Weed
from tools.arrivals import SMALLEST_PART
from tools.ports import StorageRules

NONE = ModelChoice(None, {}, {}, None, "none")
SECRET = "a webhook secret of tests"
SIGNED = "whsec_" + base64.b64encode(b"a webhook secret of tests").decode()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


@pytest_asyncio.fixture
async def desk(urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient, tmp_path: Path) -> AsyncIterator[Desk]:
    """A house that keeps files on its disk, in parts when they are over 16 MiB."""
    async with house_on_socket(urls, NONE, tmp_path / "files", work=True) as house:
        yield Desk(client, house.url, tenant.token, tenant.project_id)


def bucket_of(s3: Weed) -> dict[str, str]:
    name = f"innkeeper-{uuid7().hex}"
    s3.make_bucket(name)
    return s3.environ(name)


@pytest.mark.promise("STO-01")
@pytest.mark.usefixtures("unasked")
async def test_a_file_lives_from_its_announcement_to_its_end(desk: Desk, tmp_path: Path) -> None:
    data = b"Gruesse aus dem Gasthaus.\n" * 300_000  # over what any other request may bring
    assert len(data) > 4 << 20
    file_id = await desk.file("letters/may.txt", data, content_type="text/plain", metadata={"from": "Ada"})

    shown = await desk.call("get_file", file_id=file_id, max_bytes=10_000)
    assert shown["sha256"] == hashlib.sha256(data).hexdigest()
    assert data.decode().startswith(shown["text"])
    assert len(shown["text"]) > 5_000
    assert shown["metadata"] == {"from": "Ada"}
    ticket = shown["ticket"]
    assert (await desk.use(ticket)).content == data
    part = await desk.client.get(ticket["url"], headers={"range": "bytes=26-51"})
    assert (part.status_code, part.content) == (206, data[26:52])
    assert [one["path"] for one in (await desk.call("list_files", prefix="letters/"))["files"]] == ["letters/may.txt"]

    await desk.call("delete_file", file_id=file_id)
    assert (await desk.refused("get_file", file_id=file_id))["code"] == "file_not_found"

    async def gone() -> bool:
        return (await desk.use(ticket)).status_code == 404

    await eventually(gone)
    assert list((tmp_path / "files" / "files").rglob(f"{file_id}*")) == []


@pytest.mark.promise("STO-01")
async def test_a_long_file_goes_in_parts_and_goes_on_after_a_restart(
    urls: DatabaseUrls,
    tenant: Tenant,
    client: httpx2.AsyncClient,
    s3: Weed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.services.storage_rules", lambda _settings: StorageRules(single_bytes=SMALLEST_PART))
    size = SMALLEST_PART + 5
    data = b"x" * SMALLEST_PART + b"tail."
    sha256 = hashlib.sha256(data).hexdigest()
    for environ in ({}, bucket_of(s3)):

        async def send(desk: Desk, parts: list[dict[str, Any]]) -> None:
            for part in parts:
                piece = data[part["offset"] : part["offset"] + part["size"]]
                assert (await desk.client.put(part["url"], content=piece)).is_success

        async with house_on_socket(urls, NONE, tmp_path / "files", settings=environ) as house:
            desk = Desk(client, house.url, tenant.token, tenant.project_id)
            made = await desk.call("create_upload", path=f"{len(environ)}.bin", size=size, sha256=sha256)
            assert (made["ticket"], made["missing"]) == (None, 2)
            await send(desk, made["parts"][:1])
        async with house_on_socket(urls, NONE, tmp_path / "files", settings=environ) as house:
            desk.url = house.url
            rest = await desk.call("confirm_upload", file_id=made["id"])
            assert (rest["status"], rest["missing"]) == ("pending", 1)
            assert [part["number"] for part in rest["parts"]] == [2]
            await send(desk, rest["parts"])
            assert (await desk.call("confirm_upload", file_id=made["id"]))["status"] == "ready"
            got = await desk.call("get_file", file_id=made["id"])
            assert hashlib.sha256((await desk.use(got["ticket"])).content).hexdigest() == sha256


@pytest.mark.promise("STO-02")
async def test_an_origin_of_its_own_serves_files_and_nothing_else(
    urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    setting = {"INNKEEPER_FILES_URL": "http://files.example.test"}
    async with house_on_socket(urls, NONE, tmp_path / "files", settings=setting) as house:
        desk = Desk(client, house.url, tenant.token, tenant.project_id)
        made = await desk.call("create_upload", path="x", size=1)
        parts = urlsplit(made["ticket"]["url"])
        assert f"{parts.scheme}://{parts.netloc}" == "http://files.example.test"
        there, here = {"host": "files.example.test"}, f"{house.url}{parts.path}?{parts.query}"

        assert (await client.put(here, content=b"x", headers=made["ticket"]["headers"])).status_code == 421
        sent = await client.put(here, content=b"x", headers={**made["ticket"]["headers"], **there})
        assert sent.status_code == 201
        for path in ("/mcp", "/agui", "/healthz", "/approvals", "/storage/presign"):
            assert (await client.post(house.url + path, headers=there)).status_code == 421
        assert (await client.get(f"{house.url}/files/x", headers={"host": "evil.example.test"})).status_code == 421


@pytest.mark.promise("STO-02")
async def test_without_a_place_for_files_the_tools_say_so(
    urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient
) -> None:
    async with house_on_socket(urls, NONE) as house:
        desk = Desk(client, house.url, tenant.token, tenant.project_id)
        assert (await desk.refused("create_upload", path="x", size=1))["code"] == "storage_not_configured"
        assert (await client.get(f"{house.url}/files/files/x/y")).status_code == 404


@pytest.mark.promise("STO-01")
async def test_presigned_attachments_have_the_shape_of_the_reference_on_both_stores(
    urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient, house: House, s3: Weed, tmp_path: Path
) -> None:
    data = b"\x89PNG..."
    bound = await house.key(tenant.user_id, project_id=tenant.project_id)
    reader = await house.key(tenant.user_id, scopes=["storage:read"])
    for environ in ({}, bucket_of(s3)):
        async with house_on_socket(urls, NONE, tmp_path / "files", settings=environ) as served:
            desk = Desk(client, served.url, tenant.token, tenant.project_id)

            async def presign(body: object, **headers: str) -> httpx2.Response:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.post(f"{served.url}/storage/presign", json=body, headers=named)

            asked = {"contentType": "image/png", "size": len(data)}
            for headers in ({"x_api_key": tenant.token}, {"authorization": f"Bearer {bound}"}):
                answer = await presign(asked, **headers)
                assert answer.status_code == 200, answer.text
                found = answer.json()
                assert set(found) == {"uploadUrl", "attachmentUri", "expiresIn"}
                assert found["expiresIn"] == 3600
                sent = await client.put(found["uploadUrl"], content=data, headers={"content-type": "image/png"})
                assert sent.is_success, sent.text
                prefix = f"innkeeper://projects/{tenant.project_id}/files/"
                assert found["attachmentUri"].startswith(prefix)
                file_id = found["attachmentUri"].removeprefix(prefix)
                assert (await desk.call("confirm_upload", file_id=file_id))["status"] == "ready"
                got = await desk.call("get_file", file_id=file_id)
                assert got["path"].startswith("attachments/")
                assert got["path"].endswith(".png")
                assert (await desk.use(got["ticket"])).content == data
                # Once it is accepted, nothing that is sent again changes it.
                await client.put(found["uploadUrl"], content=data[::-1], headers={"content-type": "image/png"})
                assert (await desk.use(got["ticket"])).content == data
            for body, token, status, code in (
                ({**asked, "size": (10 << 20) + 1}, tenant.token, 413, "file_too_large"),
                ({**asked, "size": -1}, tenant.token, 400, "invalid_arguments"),
                ({**asked, "size": "9"}, tenant.token, 400, "invalid_arguments"),
                ({**asked, "contentType": "nonsense"}, tenant.token, 400, "invalid_arguments"),
                ([], tenant.token, 400, "invalid_arguments"),
                (asked, "ik_sk_wrong", 401, "unauthenticated"),
                (asked, reader, 403, "insufficient_scope"),
            ):
                answer = await presign(body, x_api_key=token)
                assert (answer.status_code, answer.json()["type"]) == (status, f"urn:innkeeper:error:{code}")
            assert (await presign(asked)).status_code == 401
            for raw in (b"", b"{", b"\xff", b"[" * 60_000):
                answer = await client.post(
                    f"{served.url}/storage/presign", content=raw, headers={"x-api-key": tenant.token}
                )
                assert answer.status_code == 400, raw[:9]


def created(bucket: str, key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "eventTime": "2026-11-25T20:00:00.000Z",
                "eventName": name,
                "s3": {"bucket": {"name": bucket}, "object": {"key": key.replace("/", "%2F"), "size": 1}},
            }
        ]
    }


def signature(body: bytes, sent_at: int, name: str = "msg_1") -> dict[str, str]:
    """Headers of the Standard Webhooks specification."""
    signed = f"{name}.{sent_at}.".encode() + body
    digest = hmac.digest(base64.b64decode(SIGNED.removeprefix("whsec_")), signed, "sha256")
    return {
        "webhook-id": name,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


@pytest.mark.promise("STO-02")
async def test_events_of_the_bucket_confirm_what_came_and_notice_what_went(
    urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient, owner: Owner, s3: Weed
) -> None:
    environ = {**bucket_of(s3), "INNKEEPER_STORAGE_WEBHOOK_SECRET": SECRET}
    bucket = environ["AWS_S3_BUCKET"]
    async with house_on_socket(urls, NONE, work=True, settings=environ) as house:
        desk = Desk(client, house.url, tenant.token, tenant.project_id)

        async def tell(event: object, secret: str = SECRET) -> int:
            headers = {"authorization": f"Bearer {secret}"}
            return (await client.post(f"{house.url}/webhooks/storage", json=event, headers=headers)).status_code

        async def is_now(file_id: str, status: str) -> None:
            async def so() -> bool:
                found = (await desk.call("list_files"))["files"]
                return [one["status"] for one in found if one["id"] == file_id] == [status]

            await eventually(so)

        made = [await desk.sent(f"{number}.txt", b"abc", content_type="text/plain") for number in range(3)]
        keys = [f"files/{tenant.project_id}/{one['id']}" for one in made]
        assert await tell(created(bucket, f"incoming/{keys[0]}"), "another secret") == 401
        assert await tell(created("another-bucket", f"incoming/{keys[0]}")) == 204
        assert await tell(created(bucket, keys[0])) == 204  # our own copy to the key says nothing new
        for other in ("incoming/else", "x", f"incoming/files/{uuid7()}/{uuid7()}"):
            assert await tell(created(bucket, other)) == 204
        assert await tell({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket}) == 204
        wrongs: list[Any] = [[], {}, {"Records": [{}]}, "text", {"Records": 1}, created(bucket, "x")["Records"]]
        for wrong in wrongs:
            assert await tell(wrong) == 400
        assert await tell({"Records": created(bucket, "x")["Records"] * 1001}) == 400
        nested = await client.post(
            f"{house.url}/webhooks/storage", content=b"[" * 60_000, headers={"authorization": f"Bearer {SECRET}"}
        )
        assert nested.status_code == 400
        assert await owner.fetchval("SELECT count(*) FROM ops.pgqueuer") == 0

        answers = await asyncio.gather(*(tell(created(bucket, f"incoming/{keys[0]}")) for _ in range(20)))
        assert answers == [204] * 20
        await is_now(made[0]["id"], "ready")
        from_minio = created(bucket, f"incoming/{keys[1]}", "s3:ObjectCreated:Put")
        assert await tell({"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/x", **from_minio}) == 204
        await is_now(made[1]["id"], "ready")
        from_eventbridge = {
            "detail-type": "Object Created",
            "source": "aws.s3",
            "detail": {"bucket": {"name": bucket}, "object": {"key": f"incoming/{keys[2]}"}},
        }
        assert await tell(from_eventbridge) == 204
        await is_now(made[2]["id"], "ready")

        assert await tell(created(bucket, keys[0], "ObjectRemoved:Delete")) == 204  # which is not true
        s3.delete(bucket, keys[1])
        assert await tell(created(bucket, keys[1], "ObjectRemoved:Delete")) == 204
        await is_now(made[1]["id"], "lost")
        await is_now(made[0]["id"], "ready")


@pytest.mark.promise("STO-02")
async def test_signed_events_count_by_their_bytes_and_for_five_minutes(
    urls: DatabaseUrls, tenant: Tenant, client: httpx2.AsyncClient, s3: Weed
) -> None:
    environ = {**bucket_of(s3), "INNKEEPER_STORAGE_WEBHOOK_SECRET": SIGNED}
    body = json.dumps(created(environ["AWS_S3_BUCKET"], "incoming/x")).encode()
    now = int(datetime.now(UTC).timestamp())
    async with house_on_socket(urls, NONE, settings=environ) as house:

        async def tell(headers: dict[str, str], sent: bytes = body) -> int:
            return (await client.post(f"{house.url}/webhooks/storage", content=sent, headers=headers)).status_code

        assert await tell(signature(body, now)) == 204
        assert await tell(signature(body, now), body + b" ") == 401
        assert await tell(signature(body, now - 360)) == 401
        assert await tell(signature(body, now + 360)) == 401
        assert await tell({**signature(body, now), "webhook-id": "msg_2"}) == 401
        assert await tell({"authorization": f"Bearer {SIGNED}"}) == 401
        assert await tell({}) == 401


@pytest.mark.promise("STO-02")
async def test_without_a_secret_or_a_bucket_no_events_are_heard(desk: Desk) -> None:
    answer = await desk.client.post(f"{desk.url}/webhooks/storage", json={}, headers={"authorization": "Bearer x"})

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:innkeeper:error:route_not_found")
