"""What the local store does over HTTP beyond the contract: ranges, conditions, what it writes, how it serves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from db.errors import AppError
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import TicketSigner
from tests.storage.places import KEYS, Place, local_place

DATA = bytes(range(256)) * 4
DIGEST = hashlib.sha256(DATA).digest()
pytestmark = [pytest.mark.promise("STO-02"), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a secret beside that of the files."""
    house = tmp_path_factory.mktemp("house")
    (house / "secret").write_bytes(b"secret")
    return house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(house: Path) -> AsyncIterator[Place]:
    async with local_place(house / "files") as place:
        yield place


def tree(root: Path) -> list[Path]:
    """Every file below the directory."""
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=1000-", 206, 1000, 1024),
        ("bytes=-24", 206, 1000, 1024),
        ("bytes=-5000", 206, 0, 1024),
        ("bytes=1020-99999", 206, 1020, 1024),
        ("BYTES= 5-9", 206, 5, 10),
        ("bytes=1024-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=9-5", 200, 0, 1024),
        ("bytes=-", 200, 0, 1024),
        ("bytes=0-1,5-9", 200, 0, 1024),
        ("lines=0-1", 200, 0, 1024),
        ("bytes=zero-nine", 200, 0, 1024),
    ],
)
async def test_a_range_is_what_was_asked_for_or_the_whole(
    place: Place, asked: str, status: int, start: int, end: int
) -> None:
    ticket = place.download(await place.put(DATA))

    answer = await place.use(ticket, headers={"range": asked})

    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1024"
        return
    assert answer.content == DATA[start:end]
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers.get("content-range") == (f"bytes {start}-{end - 1}/1024" if status == 206 else None)


async def test_conditions_are_asked_in_the_order_of_the_standard(place: Place) -> None:
    ticket = place.download(await place.put(DATA))
    first = await place.use(ticket)
    etag, date = first.headers["etag"], first.headers["last-modified"]
    long_ago = "Thu, 01 Jan 1970 00:00:00 GMT"

    async def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await place.use(ticket, headers=sent)).status_code

    assert etag.startswith('"')
    assert (await place.use(ticket)).headers["etag"] == etag
    assert await status(if_none_match=etag) == 304
    assert await status(if_none_match=f'"other", W/{etag}') == 304
    assert await status(if_none_match="*") == 304
    assert await status(if_none_match='"other"') == 200
    assert await status(if_match=etag) == 200
    assert await status(if_match="*") == 200
    assert await status(if_match='"other"') == 412
    assert await status(if_match=f"W/{etag}") == 412
    assert await status(if_modified_since=date) == 304
    assert await status(if_modified_since=long_ago) == 200
    assert await status(if_modified_since="no date") == 200
    assert await status(if_unmodified_since=date) == 200
    assert await status(if_unmodified_since=long_ago) == 412
    assert await status(if_none_match='"other"', if_modified_since=date) == 200
    assert await status(if_match=etag, if_unmodified_since=long_ago) == 200
    assert await status(range="bytes=0-1", if_range=etag) == 206
    assert await status(range="bytes=0-1", if_range=date) == 206
    assert await status(range="bytes=0-1", if_range='"other"') == 200
    assert await status(range="bytes=0-1", if_range=f"W/{etag}") == 200
    assert await status(range="bytes=0-1", if_range=long_ago) == 200
    unchanged = await place.use(ticket, headers={"if-none-match": etag})
    assert (unchanged.content, unchanged.headers["etag"]) == (b"", etag)


async def test_head_says_what_get_would_send(place: Place) -> None:
    ticket = place.download(await place.put(DATA))

    got, head = await place.use(ticket), await place.use(ticket, method="HEAD")

    assert (head.status_code, head.content) == (200, b"")
    ours = ("x-request-id", "date")
    assert [pair for pair in head.headers.items() if pair[0] not in ours] == [
        pair for pair in got.headers.items() if pair[0] not in ours
    ]
    assert head.headers["content-length"] == "1024"
    # RFC 9110, 14.2: ranges are of GET alone.
    ranged = await place.use(ticket, method="HEAD", headers={"range": "bytes=0-1"})
    assert (ranged.status_code, ranged.headers["content-length"]) == (200, "1024")


@pytest.mark.promise("STO-04")
async def test_a_file_is_served_so_that_it_can_do_nothing(place: Place) -> None:
    key = await place.put(DATA)
    saved, shown = await place.use(place.download(key)), await place.use(place.download(key, inline=True))

    for answer, how in ((saved, "attachment"), (shown, "inline")):
        assert answer.headers["content-disposition"] == f'{how}; filename="notes.txt"'
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
        )
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_pages_of_any_origin_may_use_a_ticket_and_read_why_it_was_refused(place: Place) -> None:
    page = {"origin": "https://app.example.test"}
    key = place.key()
    ticket = place.upload(key, DATA)
    asking = {**page, "access-control-request-method": "PUT", "access-control-request-headers": "content-type"}

    before = await place.client.request("OPTIONS", ticket.url, headers=asking)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == "*"
    assert before.headers["access-control-allow-headers"] == "content-type"
    sent = await place.use(ticket, DATA, headers=page)
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (201, "*")
    refused = await place.use(place.download(key), headers=page)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, "*")
    assert "access-control-allow-credentials" not in sent.headers


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "files/../../secret",
        "incoming/files/01a21429-cc72-763d-9c7b-ec4a809cfd07/01a21429-cc79-7b6b-9d95-2045cc2894f3",
        "files/01a21429-cc72-763d-9c7b-ec4a809cfd07/01a21429-cc79-7b6b-9d95-2045cc2894f3.sha256",
        "files//etc/passwd",
        ".drafts/x",
        "files/" + "a" * 36 + "/" + "." * 36,
        "",
    ],
)
async def test_no_path_leads_out_of_the_directory_even_if_it_is_signed(place: Place, house: Path, path: str) -> None:
    before, store = tree(house), cast(LocalFiles, place.store)
    claims = {"type": "text/plain", "name": "x", "size": "1"}

    for method in ("GET", "PUT"):
        url = store.base_url + store.signer.sign(method, path, claims, 2**33)
        answer = await place.client.request(method, url, content=b"x", headers={"content-type": "text/plain"})
        assert answer.status_code in (403, 404), answer.text
    with pytest.raises(ValueError, match="not a key"):
        store.disk.path(path)
    assert tree(house) == before


async def test_an_upload_that_breaks_off_or_differs_leaves_nothing(place: Place, house: Path) -> None:
    before, key = tree(house), place.key()
    ticket = place.upload(key, DATA)

    async def half() -> AsyncIterator[bytes]:
        yield DATA[:512]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await place.use(ticket, cast(bytes, half()), headers={"content-length": None})

    async def short() -> AsyncIterator[bytes]:
        yield DATA[:512]

    async def long() -> AsyncIterator[bytes]:
        yield DATA
        yield DATA

    for stream in (short(), long()):
        answer = await place.use(ticket, cast(bytes, stream), headers={"content-length": None})
        assert answer.status_code == 403
    assert tree(house) == before
    assert await place.store.accept(key) is None
    assert (await place.use(ticket, DATA)).status_code == 201
    assert tree(house / "files" / ".drafts") == []


async def test_a_stream_without_a_length_is_taken_if_it_has_the_announced_one(place: Place) -> None:
    key = place.key()

    async def stream() -> AsyncIterator[bytes]:
        yield DATA[:512]
        yield DATA[512:]

    answer = await place.use(place.upload(key, DATA), cast(bytes, stream()), headers={"content-length": None})

    assert answer.status_code == 201
    found = await place.store.accept(key)
    assert found is not None
    assert (found.size, found.sha256) == (1024, DIGEST.hex())


@pytest.mark.parametrize("header", ["repr-digest", "content-digest", "x-amz-checksum-sha256"])
async def test_a_client_may_send_the_sum_of_its_own_bytes(place: Place, header: str) -> None:
    def spelled(digest: bytes) -> str:
        text = base64.b64encode(digest).decode()
        return text if header.startswith("x-amz") else f"sha-512=:AAAA:, sha-256=:{text}:"

    key = place.key()
    wrong = await place.use(place.upload(key, DATA), DATA, headers={header: spelled(DIGEST[::-1])})
    right = await place.use(place.upload(key, DATA), DATA, headers={header: spelled(DIGEST)})

    assert (wrong.status_code, wrong.json()["type"]) == (400, "urn:innkeeper:error:checksum_differs")
    assert right.status_code == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "gzip"}, 400),
        ({"content-range": "bytes 0-1023/2048"}, 400),
        ({"if-match": "*"}, 412),
        ({"if-none-match": '"x"'}, 412),
        ({"if-none-match": "*"}, 201),
        ({"content-type": "TEXT/plain"}, 201),
        ({"repr-digest": "sha-256=:AAAA:"}, 400),
        ({"repr-digest": "sha-256=:no base64:"}, 400),
        ({"x-amz-checksum-sha256": b"\xe9"}, 400),
    ],
)
async def test_what_a_put_may_ask_for(place: Place, headers: dict[str, str | bytes], status: int) -> None:
    answer = await place.use(place.upload(place.key(), DATA), DATA, headers=headers)

    assert answer.status_code == status


async def test_of_many_who_use_one_ticket_at_once_one_writes(place: Place) -> None:
    key = place.key()
    ticket = place.upload(key, DATA)

    answers = await asyncio.gather(*(place.use(ticket, DATA) for _ in range(10)))

    assert sorted(answer.status_code for answer in answers) == [201] + [412] * 9


async def test_other_hosts_and_methods_get_no_files(place: Place) -> None:
    ticket = place.download(await place.put(DATA))

    foreign = await place.use(ticket, headers={"host": "innkeeper.example.test"})
    assert foreign.status_code == 421
    for method in ("POST", "DELETE", "PATCH"):
        answer = await place.use(ticket, method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PUT, OPTIONS")
    asked = await place.use(ticket, method="OPTIONS")
    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, PUT, OPTIONS")


async def test_a_ticket_of_a_former_key_is_good_for_its_time_and_one_of_no_key_never(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = place.download(await place.put(DATA))

    monkeypatch.setattr(place.store, "signer", TicketSigner(lambda: (b"a new key", *KEYS)))
    assert (await place.use(ticket)).status_code == 200
    assert (await place.use(place.download(await place.put(DATA)))).status_code == 200
    monkeypatch.setattr(place.store, "signer", TicketSigner(lambda: (b"a new key",)))
    assert (await place.use(ticket)).status_code == 403


async def test_a_full_disk_is_said_so_and_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    answer = await place.use(place.upload(place.key(), DATA), DATA)

    assert (answer.status_code, answer.json()["type"]) == (507, "urn:innkeeper:error:storage_full")


async def test_a_reader_who_leaves_stops_the_reading(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 64 << 20
    key = place.key()
    path = cast(LocalFiles, place.store).disk.path(key)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    read: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    closed, close = asyncio.Event(), os.close

    def closing(descriptor: int) -> None:
        close(descriptor)
        closed.set()

    monkeypatch.setattr(os, "close", closing)
    async with place.client.stream("GET", place.download(key).url) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_raw())
    async with asyncio.timeout(60):
        await closed.wait()

    assert sum(read) < size // 2


async def test_the_address_of_a_ticket_is_read_inside_the_process_as_outside(place: Place) -> None:
    key = await place.put(DATA)
    ticket = place.download(key)

    assert await place.store.fetch(ticket.url, 1024) == DATA
    for url, most, status in (
        (ticket.url, 1023, 413),
        (ticket.url + "0", 1024, 403),
        (ticket.url.replace("http://", "https://"), 1024, 403),
        (place.download(place.key()).url, 1024, 404),
    ):
        with pytest.raises(AppError) as caught:
            await place.store.fetch(url, most)
        assert caught.value.status == status
