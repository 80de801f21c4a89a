"""A bucket beside its objects: with which credentials it is reached, and what ``doctor`` says and installs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from db.errors import AppError
from db.ids import uuid7
from server.finding import Finding
from server.integrations.s3_files import S3Files
from server.refusal import Refusal
from server.settings.loading import load
from server.store_findings import store_findings
from tests.fakes.sockets import on_socket
from tests.server.command import run
from tests.storage.places import Place
from tests.storage.test_contract import DATA
from tests.storage.weed import ROLE, SECRET, Weed


@pytest.fixture
def bucket(s3: Weed) -> str:
    name = f"innkeeper-{uuid7().hex}"
    s3.make_bucket(name)
    return name


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials but those of the test."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


async def there_and_back(place: Place) -> str:
    """An upload and a download; the address of the latter."""
    key = await place.put(DATA)
    ticket = place.download(key)
    assert (await place.use(ticket)).content == DATA
    assert await place.store.read(key, 0, 3) == DATA[:3]
    return ticket.url


class Sts:
    """Temporary credentials of the real store, handed out as a container's metadata service does."""

    def __init__(self, s3: Weed) -> None:
        self._client = s3.client_of("sts")
        self.given: list[str] = []
        self.seconds = 3600.0

    def credentials(self) -> dict[str, Any]:
        assumed = self._client.assume_role(RoleArn=ROLE, RoleSessionName=f"session-{len(self.given)}")
        found: dict[str, Any] = assumed["Credentials"]
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.credentials()
        self.given.append(found["AccessKeyId"])
        expires = datetime.now(UTC) + timedelta(seconds=self.seconds)
        answer = {
            "AccessKeyId": found["AccessKeyId"],
            "SecretAccessKey": found["SecretAccessKey"],
            "Token": found["SessionToken"],
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


@pytest.mark.promise("STO-02")
async def test_temporary_credentials_of_an_sts_sign_with_their_token(
    s3: Weed, bucket: str, client: httpx2.AsyncClient
) -> None:
    found = Sts(s3).credentials()
    given = {
        "access_key_id": found["AccessKeyId"],
        "secret_access_key": found["SecretAccessKey"],
        "session_token": found["SessionToken"],
    }
    store = await S3Files.open(s3.settings(bucket, **given))
    try:
        url = await there_and_back(Place(store, client))
        assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == [found["SessionToken"]]
    finally:
        await store.aclose()
    without = await S3Files.open(s3.settings(bucket, **{**given, "session_token": None}))
    try:
        with pytest.raises(AppError, match="does not answer"):
            await without.head("files/x/y")
    finally:
        await without.aclose()


@pytest.mark.promise("STO-02")
async def test_the_role_of_a_container_is_found_and_renewed_before_it_ends(
    s3: Weed, bucket: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sts = Sts(s3)
    async with on_socket(sts) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
        sts.seconds = 600  # within the quarter of an hour in which they are renewed
        store = await S3Files.open(s3.settings(bucket, access_key_id=None, secret_access_key=None))
        try:
            place = Place(store, client)
            ticket = place.download(place.key(), seconds=3600)
            assert ticket.expires_at - datetime.now(UTC) <= timedelta(seconds=600)
            before = list(sts.given)
            await there_and_back(place)
            assert sts.given == before  # nothing that signs asks the network
            sts.seconds = 7200
            await store.credentials.renew()
            assert len(sts.given) == len(before) + 1
            signed_by = parse_qs(urlsplit(await there_and_back(place)).query)["X-Amz-Credential"][0]
            assert signed_by.startswith(sts.given[-1])
            ticket = place.download(place.key(), seconds=3600)
            assert ticket.expires_at - datetime.now(UTC) > timedelta(seconds=3500)
        finally:
            await store.aclose()


@pytest.mark.promise("STO-02")
async def test_credentials_that_are_missing_or_half_there_are_refused_with_what_to_set(s3: Weed, bucket: str) -> None:
    with pytest.raises(Refusal, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        await S3Files.open(s3.settings(bucket, access_key_id=None, secret_access_key=None))
    with pytest.raises(Refusal, match="without AWS_SECRET_ACCESS_KEY"):
        await S3Files.open(s3.settings(bucket, secret_access_key=None))


@pytest.mark.promise("STO-02")
async def test_clients_may_reach_the_store_at_another_address_than_the_house_does(
    s3: Weed, bucket: str, client: httpx2.AsyncClient
) -> None:
    public = s3.endpoint.replace("127.0.0.1", "localhost")
    store = await S3Files.open(s3.settings(bucket), public)
    try:
        assert (await there_and_back(Place(store, client))).startswith(f"{public}/{bucket}/files/")
    finally:
        await store.aclose()


@pytest.mark.promise("STO-02")
@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"endpoint_url": None, "region": "eu-west-1"}, "https://inn-bucket.s3.eu-west-1.amazonaws.com/files/"),
        ({"endpoint_url": None, "path_style": True}, "https://s3.us-east-1.amazonaws.com/inn-bucket/files/"),
        ({"endpoint_url": "https://store.example.test"}, "https://store.example.test/inn-bucket/files/"),
        (
            {"endpoint_url": "https://store.example.test", "path_style": False},
            "https://inn-bucket.store.example.test/files/",
        ),
    ],
)
async def test_the_bucket_stands_where_the_store_expects_it(
    s3: Weed, client: httpx2.AsyncClient, changes: dict[str, Any], start: str
) -> None:
    store = await S3Files.open(s3.settings("inn-bucket", **changes))
    try:
        assert Place(store, client).download("files/a/b").url.startswith(start)
    finally:
        await store.aclose()


@pytest.mark.promise("STO-02")
async def test_a_store_that_does_not_answer_is_an_error_to_try_again(s3: Weed, bucket: str) -> None:
    for changes in ({"endpoint_url": "http://127.0.0.1:9"}, {"secret_access_key": "wrong"}):
        store = await S3Files.open(s3.settings(bucket, **changes))
        try:
            with pytest.raises(AppError) as caught:
                await store.head("files/x/y")
            assert (caught.value.code, caught.value.retryable) == ("store_unavailable", True)
        finally:
            await store.aclose()


async def found(s3: Weed, bucket: str, *, fix: bool = False, **changes: str) -> list[Finding]:
    settings = load({**s3.environ(bucket), **changes}, environment="development")
    return [finding async for finding in store_findings(settings, None, fix=fix)]


def faults(findings: list[Finding]) -> str:
    return "\n".join(finding.said for finding in findings if finding.verdict == "fault")


@pytest.mark.promise("STO-01")
async def test_doctor_finds_what_a_bucket_lacks_and_installs_it_beside_other_rules(
    s3: Weed, bucket: str, client: httpx2.AsyncClient
) -> None:
    admin = s3.client_of("s3")
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    page = {"AllowedOrigins": ["https://page.example.test"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
    admin.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [theirs]})
    admin.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [page]})

    assert faults(await found(s3, bucket)).count("innkeeper doctor --fix") == 2
    assert faults(await found(s3, bucket, fix=True)) == ""
    again = await found(s3, bucket)
    assert faults(again) == ""
    assert [one.said for one in again if one.said.startswith(("CORS", "lifecycle"))] == [
        "CORS: pages may use tickets",
        "lifecycle: what uploads leave behind and temporary files expire",
    ]
    rules = {rule["ID"]: rule for rule in admin.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["theirs"] == theirs
    assert {(name, str(rule["Filter"]["Prefix"])) for name, rule in rules.items()} == {
        ("theirs", "logs/"),
        ("innkeeper-uploads", "incoming/"),
        ("innkeeper-parts", ""),
        ("innkeeper-temporary", "temporary/"),
    }
    assert rules["innkeeper-uploads"]["Expiration"] == {"Days": 3}
    assert rules["innkeeper-temporary"]["Expiration"] == {"Days": 3}
    assert rules["innkeeper-parts"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    assert len(admin.get_bucket_cors(Bucket=bucket)["CORSRules"]) == 2

    store = await S3Files.open(s3.settings(bucket))
    try:
        ticket = Place(store, client).upload("files/a/b", DATA)
        asking = {
            "origin": "https://any.example.test",
            "access-control-request-method": "PUT",
            "access-control-request-headers": "content-type,if-none-match,x-amz-checksum-sha256",
        }
        answer = await client.request("OPTIONS", ticket.url, headers=asking)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] in ("*", "https://any.example.test")
        assert "PUT" in answer.headers["access-control-allow-methods"]
    finally:
        await store.aclose()


@pytest.mark.promise("STO-01")
async def test_a_rule_of_ours_that_was_changed_is_a_fault(s3: Weed, bucket: str) -> None:
    await found(s3, bucket, fix=True)
    admin = s3.client_of("s3")
    rules = admin.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    for rule in rules:
        if rule["ID"] == "innkeeper-uploads":
            rule["Expiration"] = {"Days": 1}
    admin.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    assert faults(await found(s3, bucket)).startswith("lifecycle: ")


@pytest.mark.promise("STO-01")
async def test_doctor_says_why_a_bucket_cannot_be_reached(s3: Weed, bucket: str, tmp_path: Path) -> None:
    assert "cannot be reached: 404" in faults(await found(s3, f"innkeeper-{uuid7().hex}"))
    assert "cannot be reached: 403" in faults(await found(s3, bucket, AWS_SECRET_ACCESS_KEY="wrong"))
    printed = await run("doctor", "--json", cwd=tmp_path, environ=s3.environ(bucket))
    said = [finding["said"] for finding in json.loads(printed.out)["findings"] if finding["subject"] == "files"]
    assert "bucket" in said[0]
    assert SECRET not in printed.out + printed.err


@pytest.mark.promise("STO-02")
async def test_doctor_says_where_files_lie_on_this_machine(tmp_path: Path) -> None:
    async def said(default: Path | None, **environ: str) -> list[tuple[str, str]]:
        settings = load(dict(environ), environment="development")
        return [(one.verdict, one.said) async for one in store_findings(settings, default, fix=False)]

    assert await said(None) == [("note", "no place for files: set AWS_S3_BUCKET or INNKEEPER_FILES_DIR")]
    assert await said(tmp_path) == [("ok", f"in {tmp_path}")]
    assert await said(tmp_path, INNKEEPER_FILES_DIR=str(tmp_path / "x")) == [("ok", f"in {tmp_path / 'x'}")]
