"""What every store promises, asked of the local one and of a real S3-compatible server alike."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx2
import pytest
import pytest_asyncio

from db import files
from db.errors import AppError
from db.ids import uuid7
from tests.storage.places import Place, bucket_place, local_place
from tools.store import Ticket

DATA = b"The quick brown fox jumps over the lazy dog.\n"
DIGEST = hashlib.sha256(DATA).hexdigest()
pytestmark = [pytest.mark.promise("STO-03"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["local", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    if request.param == "local":
        opened = local_place(tmp_path_factory.mktemp("files"))
    else:
        opened = bucket_place(request.getfixturevalue("s3"))
    async with opened as place:
        yield place


def refused(answer: httpx2.Response) -> bool:
    return answer.status_code in (400, 403, 404, 411, 412)


def changed(ticket: Ticket, **changes: str) -> str:
    """The ticket's address with other values in its query; an empty one leaves the name out."""
    parts = urlsplit(ticket.url)
    query = {**dict(parse_qsl(parts.query)), **changes}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in query.items() if value})))


async def test_bytes_go_there_and_back_with_tickets_alone(place: Place) -> None:
    key = place.key()

    sent = await place.use(place.upload(key, DATA, DIGEST), DATA)
    assert sent.is_success
    assert await place.store.head(key) is None  # nobody reads what was not accepted
    found = await place.store.accept(key)
    assert found is not None
    assert (found.key, found.size, found.sha256) == (key, len(DATA), DIGEST)
    assert datetime.now(UTC) - found.modified < timedelta(minutes=1)
    got = await place.use(place.download(key))
    assert (got.status_code, got.content) == (200, DATA)
    assert await place.store.read(key, 4, 5) == b"quick"
    assert await place.store.read(key, len(DATA) - 2, 100) == DATA[-2:]
    assert b"".join([data async for data in place.store.stream(key)]) == DATA


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 300_000])
async def test_files_of_any_size_arrive_whole(place: Place, data: bytes) -> None:
    key = await place.put(data)

    assert (await place.use(place.download(key))).content == data
    found = await place.store.head(key)
    assert found is not None
    assert found.size == len(data)


@pytest.mark.parametrize("method", ["upload", "download"])
async def test_a_ticket_with_anything_changed_in_its_address_is_refused(place: Place, method: str) -> None:
    key = await place.put(DATA)
    ticket = place.download(key) if method == "download" else place.upload(place.key(), DATA, DIGEST)
    for name, value in parse_qsl(urlsplit(ticket.url).query):
        other = {"expires": "9999999999", "X-Amz-Expires": "86400", "size": "46"}.get(name, value[:-1] + "0")
        if other == value:
            other = value + "1"
        for url in (changed(ticket, **{name: other}), changed(ticket, **{name: ""})):
            assert refused(await place.use(ticket, DATA, url=url)), name
    further = changed(ticket, inline="1", **{"response-content-type": "text/html"})
    assert refused(await place.use(ticket, DATA, url=further))


async def test_a_ticket_of_one_key_is_refused_at_every_other_key_and_project(place: Place) -> None:
    project, other_project = uuid7(), uuid7()
    mine, beside = (files.key(project, uuid7(), temporary=False) for _ in range(2))
    theirs = files.key(other_project, uuid7(), temporary=False)
    for key in (mine, beside, theirs):
        await place.put(DATA, key)
    download, upload = place.download(mine), place.upload(files.key(project, uuid7(), temporary=False), DATA)
    name = urlsplit(upload.url).path.rpartition("/")[2]

    for key in (beside, theirs):
        assert refused(await place.use(download, url=download.url.replace(mine, key)))
        there = upload.url.replace(str(project), str(other_project)).replace(name, key.rpartition("/")[2])
        assert refused(await place.use(upload, DATA, url=there))
    elsewhere = upload.url.replace(str(project), str(other_project))
    assert refused(await place.use(upload, DATA, url=elsewhere))
    assert (await place.use(download)).content == DATA


async def test_a_ticket_of_one_method_is_refused_for_every_other(place: Place) -> None:
    key, fresh = await place.put(DATA), place.key()
    download, upload = place.download(key), place.upload(fresh, DATA)

    for method in ("PUT", "POST", "DELETE"):
        answer = await place.use(download, DATA, method=method)
        assert refused(answer) or answer.status_code == 405
    for method in ("GET", "POST", "DELETE"):
        answer = await place.use(upload, DATA, method=method)
        assert refused(answer) or answer.status_code == 405
    assert (await place.use(download)).content == DATA
    assert await place.store.accept(fresh) is None


async def test_an_expired_ticket_is_refused(place: Place) -> None:
    key, fresh = await place.put(DATA), place.key()
    for ticket in (place.download(key, seconds=-5), place.upload(fresh, DATA, seconds=-5)):
        assert refused(await place.use(ticket, DATA))
    assert await place.store.accept(fresh) is None


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"", DATA * 1000])
async def test_another_length_than_the_announced_one_is_refused(place: Place, data: bytes) -> None:
    key = place.key()

    answer = await place.use(place.upload(key, DATA), data, headers={"content-length": str(len(data))})

    assert refused(answer)
    assert await place.store.accept(key) is None


@pytest.mark.parametrize("kind", ["text/html", "text/plainly", "image/svg+xml", None])
async def test_another_type_than_the_announced_one_is_refused(place: Place, kind: str | None) -> None:
    key = place.key()

    answer = await place.use(place.upload(key, DATA), DATA, headers={"content-type": kind})

    assert refused(answer)
    assert await place.store.accept(key) is None


async def test_bytes_that_have_not_the_announced_sum_are_refused(place: Place) -> None:
    key = place.key()
    wrong = DATA.replace(b"fox", b"cat")

    assert refused(await place.use(place.upload(key, DATA, DIGEST), wrong))
    lied = base64.b64encode(hashlib.sha256(wrong).digest()).decode()
    claimed = {"x-amz-checksum-sha256": lied}
    assert refused(await place.use(place.upload(key, DATA, DIGEST), wrong, headers=claimed))
    assert await place.store.accept(key) is None
    assert (await place.use(place.upload(key, DATA, DIGEST), DATA)).is_success


async def test_a_ticket_writes_once_whatever_became_of_what_it_wrote(place: Place) -> None:
    key = place.key()
    ticket, again = place.upload(key, DATA), place.upload(key, DATA.upper())
    assert (await place.use(ticket, DATA)).is_success

    async def none_writes() -> None:
        for one, data in ((ticket, DATA), (again, DATA.upper())):
            assert (await place.use(one, data)).status_code == 412

    await none_writes()
    await place.store.accept(key)
    await none_writes()
    assert (await place.use(place.download(key))).content == DATA
    download = place.download(key)
    await place.store.seal(key)
    await place.store.delete([key])
    await none_writes()
    assert (await place.use(download)).status_code == 404
    assert await place.store.head(key) is None
    assert await place.store.accept(key) in (None, await place.store.head(key))
    await none_writes()


async def test_a_sealed_key_takes_nothing_that_was_allowed_before(place: Place) -> None:
    key = place.key()
    ticket = place.upload(key, DATA)

    await place.store.seal(key)

    assert (await place.use(ticket, DATA)).status_code == 412


async def test_accepting_twice_and_deleting_twice_is_done_once(place: Place) -> None:
    key = await place.put(DATA)

    assert await place.store.accept(key) == await place.store.head(key)
    await place.store.delete([key, place.key()])
    await place.store.delete([key])
    assert await place.store.head(key) is None
    assert await place.store.read(key, 0, 10) == b""
    assert [data async for data in place.store.stream(key)] == []


def in_parts(place: Place) -> list[bytes]:
    return [b"a" * place.least, b"b" * place.least, b"the end"]


async def test_a_file_in_parts_goes_on_where_it_stopped_and_is_joined_in_order(place: Place) -> None:
    key, parts, store = place.key(), in_parts(place), place.store
    upload_id = await store.start_multipart(key, "text/plain")
    tickets = [store.part_ticket(key, upload_id, number, len(data), 60) for number, data in enumerate(parts, 1)]

    assert await store.list_parts(key, upload_id) == []
    assert (await place.use(tickets[2], parts[2])).is_success
    assert (await place.use(tickets[0], parts[0])).is_success
    assert (await place.use(tickets[0], parts[0])).is_success
    arrived = [(part.number, part.size) for part in await store.list_parts(key, upload_id)]
    assert arrived == [(1, place.least), (3, 7)]
    assert (await place.use(tickets[1], parts[1])).is_success
    assert await store.head(key) is None
    await store.complete_multipart(key, upload_id, await store.list_parts(key, upload_id))
    await store.complete_multipart(key, upload_id, [])
    found = await store.head(key)
    assert found is not None
    assert found.size == 2 * place.least + 7
    assert b"".join([data async for data in store.stream(key)]) == b"".join(parts)
    assert refused(await place.use(tickets[1], parts[1]))
    assert await store.list_parts(key, upload_id) == []


async def test_a_ticket_of_a_part_is_for_that_part_alone(place: Place) -> None:
    key, store = place.key(), place.store
    upload_id, another = await store.start_multipart(key, "x/y"), await store.start_multipart(place.key(), "x/y")
    ticket = store.part_ticket(key, upload_id, 1, 3, 60)
    numbers = {name: "2" for name, _ in parse_qsl(urlsplit(ticket.url).query) if name in ("part", "partNumber")}
    uploads = {name: another for name, _ in parse_qsl(urlsplit(ticket.url).query) if name in ("upload", "uploadId")}

    for changes in (numbers, uploads):
        assert len(changes) == 1
        assert refused(await place.use(ticket, b"abc", url=changed(ticket, **changes)))
    assert refused(await place.use(ticket, b"abcd", headers={"content-length": "4"}))
    assert refused(await place.use(store.part_ticket(key, upload_id, 1, 3, -5), b"abc"))
    assert await store.list_parts(key, upload_id) == []
    await store.abort_multipart(key, upload_id)
    await store.abort_multipart(key, upload_id)
    assert refused(await place.use(ticket, b"abc"))
    assert await store.list_parts(key, upload_id) == []
    await store.abort_multipart(key, another)


async def test_objects_are_listed_in_the_order_of_their_keys_from_anywhere(place: Place) -> None:
    projects = sorted(uuid7() for _ in range(3))
    made = [files.key(project, uuid7(), temporary=False) for project in projects for _ in range(4)]
    for key in reversed(made):
        await place.store.put(key, b"x", "text/plain")
    apart = files.key(projects[0], uuid7(), temporary=True)
    await place.store.put(apart, b"x", "text/plain")

    async def listed(prefix: str, after: str = "") -> list[str]:
        return [one.key async for one in place.store.list(prefix, after) if one.key in (*made, apart)]

    assert await listed("files/") == made
    assert await listed("temporary/") == [apart]
    for project, expected in zip(projects, (made[:4], made[4:8], made[8:]), strict=True):
        assert await listed(f"files/{project}/") == expected
    for number, key in enumerate(made):
        assert await listed("files/", key) == made[number + 1 :]
    assert await listed("files/", f"files/{projects[0]}/~") == made[4:]
    assert await listed(f"files/{projects[1]}/", made[5]) == made[6:8]
    assert await listed(f"files/{uuid7()}/") == []


@pytest.mark.promise("STO-01")
async def test_what_uploads_left_behind_is_swept_by_age_and_nothing_else_is(place: Place) -> None:
    kept, sealed, sent = await place.put(DATA), place.key(), place.key()
    await place.use(place.upload(sent, DATA), DATA)
    await place.store.seal(sealed)
    upload_id = await place.store.start_multipart(place.key(), "x/y")
    ticket = place.store.part_ticket(place.key(), upload_id, 1, 1, 60)

    await place.store.sweep(datetime.now(UTC) - timedelta(hours=1))
    assert (await place.use(place.upload(sealed, DATA), DATA)).status_code == 412
    assert await place.store.accept(sent) is not None
    assert await place.store.sweep(datetime.now(UTC) + timedelta(hours=1)) >= 3
    assert (await place.use(place.download(kept))).content == DATA
    assert (await place.use(place.download(sent))).content == DATA
    assert refused(await place.use(ticket, b"x"))
    assert await place.store.sweep(datetime.now(UTC) + timedelta(hours=1)) == 0


@pytest.mark.promise("STO-04")
@pytest.mark.parametrize(("inline", "how"), [(False, "attachment"), (True, "inline")])
async def test_a_download_has_the_type_and_the_disposition_of_its_ticket(place: Place, inline: bool, how: str) -> None:
    key = place.key()
    await place.use(place.upload(key, DATA, kind="text/html"), DATA)
    await place.store.accept(key)

    answer = await place.use(place.download(key, inline=inline, kind="application/octet-stream"))

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'{how}; filename="notes.txt"'
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.promise("STO-06")
async def test_the_address_of_a_download_is_read_and_no_other(place: Place) -> None:
    ticket = place.download(await place.put(DATA))

    assert await place.store.fetch(ticket.url, len(DATA)) == DATA
    for url, most, status in (
        (ticket.url, len(DATA) - 1, 413),
        (ticket.url + "0", 100, 403),
        ("http://127.0.0.1:9/" + ticket.url.partition("//")[2], 100, 403),
        (place.download(place.key()).url, 100, 404),
    ):
        with pytest.raises(AppError) as caught:
            await place.store.fetch(url, most)
        assert caught.value.status == status


async def test_an_upload_ticket_says_with_which_headers_to_send_it(place: Place) -> None:
    ticket = place.upload(place.key(), DATA, DIGEST)

    assert ticket.method == "PUT"
    assert {"content-type", "content-length"} <= set(ticket.headers)
