"""Announcing, sending and confirming files, whole and in parts, and how much of them there may be."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from db.errors import AppError
from tests.conftest import Owner
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.tools.desk import Desk
from tools.arrivals import MEBIBYTE, SMALLEST_PART, part_size, parts
from tools.ports import Services

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("STO-01"), pytest.mark.asyncio(loop_scope="module")]
FILES = "SELECT count(*) FROM files WHERE project_id = $1"


async def test_a_file_is_announced_sent_confirmed_and_read_back(desk: Desk) -> None:
    data = 'Grüße, "Gäste"'.encode()
    sha256 = hashlib.sha256(data).hexdigest()

    made = await desk.call(
        "create_upload", path="letters/may.txt", size=len(data), content_type="text/plain", sha256=sha256.upper()
    )
    assert (made["status"], made["parts"], made["missing"]) == ("pending", None, None)
    assert made["ticket"]["method"] == "PUT"
    assert made["ticket"]["headers"] == {
        "content-type": "text/plain",
        "content-length": str(len(data)),
        "sha256": sha256,
    }
    desk.send(made["id"], data)
    confirmed = await desk.call("confirm_upload", file_id=made["id"])
    assert confirmed == {**made, "status": "ready", "ticket": None, "expires_at": None}

    read = await desk.call("get_file", file_id=made["id"])
    assert read["text"] == data.decode()
    assert read["sha256"] == sha256
    assert read["ticket"]["method"] == "GET"
    assert read["next_cursor"] is None
    listed = await desk.call("list_files")
    assert [(one["id"], one["path"], one["status"]) for one in listed["files"]] == [
        (made["id"], "letters/may.txt", "ready")
    ]


async def test_confirming_again_answers_the_same_and_before_the_bytes_gives_a_new_ticket(desk: Desk) -> None:
    made = await desk.call("create_upload", path="a.bin", size=3)

    early = await desk.call("confirm_upload", file_id=made["id"])
    assert early["status"] == "pending"
    assert early["ticket"]["method"] == "PUT"
    assert early["ticket"]["url"] != made["ticket"]["url"]
    desk.send(made["id"], b"abc")
    answers = await asyncio.gather(*(desk.call("confirm_upload", file_id=made["id"]) for _ in range(5)))
    assert [answer["status"] for answer in answers] == ["ready"] * 5


async def test_what_differs_from_what_was_announced_is_never_ready(desk: Desk) -> None:
    sized = await desk.call("create_upload", path="sized", size=3)
    desk.send(sized["id"], b"abcd")
    summed = await desk.call("create_upload", path="summed", size=3, sha256=hashlib.sha256(b"abc").hexdigest())
    desk.send(summed["id"], b"abX")
    unknown = await desk.call("create_upload", path="unknown", size=3, sha256=hashlib.sha256(b"abc").hexdigest())
    desk.send(unknown["id"], b"abX")

    for made in (sized, summed, unknown):
        desk.store.sums = made is not unknown
        error = await desk.refused("confirm_upload", file_id=made["id"])
        assert (error.code, error.status) == ("upload_differs", 409)
        assert (await desk.call("get_file", file_id=made["id"]))["status"] == "pending"


async def test_a_sum_that_no_store_computed_is_computed_by_reading_all(desk: Desk) -> None:
    data = b"x" * 300_000
    made = await desk.call("create_upload", path="long.bin", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    desk.send(made["id"], data)
    desk.store.sums = False

    assert (await desk.call("confirm_upload", file_id=made["id"]))["status"] == "ready"


async def test_a_repeat_with_the_same_key_is_one_file_with_a_fresh_ticket_and_no_ticket_is_stored(
    desk: Desk, owner: Owner
) -> None:
    calls = [await desk.call("create_upload", key="once", path="once.bin", size=3) for _ in range(3)]

    assert len({made["id"] for made in calls}) == 1
    assert len({made["ticket"]["url"] for made in calls}) == 3
    assert await owner.fetchval(FILES, desk.tenant.project_id) == 1
    saved = json.loads(
        await owner.fetchval(
            "SELECT answer FROM idempotency WHERE key = 'once' AND credential_id = $1",
            desk.tenant.principal.credential_id,
        )
    )
    assert saved["ticket"] is None
    for table in ("idempotency", "audit", "files"):
        assert not await owner.fetchval(f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%signature=%'"), table
    desk.send(calls[0]["id"], b"abc")
    await desk.call("confirm_upload", file_id=calls[0]["id"])
    late = await desk.call("create_upload", key="once", path="once.bin", size=3)
    assert (late["id"], late["status"], late["ticket"]) == (calls[0]["id"], "ready", None)


async def test_a_long_file_goes_in_parts_and_goes_on_where_it_stopped(with_rules: Any) -> None:
    desk = with_rules(single_bytes=SMALLEST_PART)
    size = 2 * SMALLEST_PART + 5
    data = b"".join(bytes([number]) * length for number, _offset, length in parts(size))
    sha256 = hashlib.sha256(data).hexdigest()

    made = await desk.call("create_upload", path="film.bin", size=size, sha256=sha256)
    assert made["ticket"] is None
    assert made["missing"] == 3
    assert [(part["number"], part["offset"], part["size"]) for part in made["parts"]] == list(parts(size))
    held = desk.store.uploads["upload-1"]
    for number, offset, length in list(parts(size))[:2]:
        held[number] = data[offset : offset + length]

    rest = await desk.call("confirm_upload", file_id=made["id"])
    assert (rest["status"], rest["missing"], [part["number"] for part in rest["parts"]]) == ("pending", 1, [3])
    held[3] = data[-4:]
    assert (await desk.call("confirm_upload", file_id=made["id"]))["missing"] == 1
    held[3] = data[-5:]
    assert (await desk.call("confirm_upload", file_id=made["id"]))["status"] == "ready"
    assert desk.store.objects[desk.key(made["id"])][0] == data


async def test_two_callers_that_begin_the_same_upload_in_parts_go_on_with_one(with_rules: Any) -> None:
    desk = with_rules(single_bytes=1)
    made = await desk.call("create_upload", path="film.bin", size=10)

    answers = await asyncio.gather(*(desk.call("confirm_upload", file_id=made["id"]) for _ in range(5)))

    assert len(desk.store.uploads) == 1
    assert all("/upload-1/1?" in answer["parts"][0]["url"] for answer in answers)


async def test_an_answer_holds_as_many_parts_as_fit_and_counts_the_others(with_rules: Any) -> None:
    desk = with_rules(single_bytes=1)
    made = await desk.call("create_upload", path="film.bin", size=64 * SMALLEST_PART)

    assert made["missing"] == 64
    assert 10 < len(made["parts"]) < 64
    assert len(json.dumps(made, separators=(",", ":"))) <= 5_000
    more = await desk.call("confirm_upload", file_id=made["id"], max_bytes=25_000)
    assert len(more["parts"]) == 64


@pytest.mark.parametrize("size", [0, 1, SMALLEST_PART, SMALLEST_PART + 1, 10**9, 5 * 10**9, 5 * 2**40])
async def test_parts_cover_a_file_without_gap_and_are_few(size: int) -> None:
    found = list(parts(size))

    assert sum(length for _number, _offset, length in found) == size
    assert [number for number, _offset, _length in found] == list(range(1, len(found) + 1))
    assert all(offset == (number - 1) * part_size(size) for number, offset, _length in found)
    assert len(found) <= 64
    assert part_size(size) % MEBIBYTE == 0


@pytest.mark.parametrize(
    "content_type", ["Text/Plain; Charset=UTF-8", "video/webm;codecs=vp8,opus", "image/svg+xml", "application/x.y-z"]
)
async def test_types_are_taken_as_browsers_write_them(desk: Desk, content_type: str) -> None:
    file_id = await desk.file("some", b"x", content_type=content_type)

    assert (await desk.call("get_file", file_id=file_id))["content_type"] == content_type.lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": ""},
        {"path": "/absolute"},
        {"path": "a//b"},
        {"path": "../up"},
        {"path": "a/./b"},
        {"path": "ends/"},
        {"path": "nul\x00"},
        {"path": "line\nbreak"},
        {"path": "\ud800"},
        {"path": "ü" * 257},
        {"size": -1},
        {"size": "many"},
        {"content_type": "text"},
        {"content_type": "text/plain\r\nx: y"},
        {"content_type": "text/plain; x"},
        {"content_type": 'text/plain; x="\u00fc"'},
        {"sha256": "abc"},
        {"metadata": {"a": "x" * 3000}},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "\x00"}},
    ],
)
async def test_a_wrong_announcement_is_explained_and_leaves_nothing(
    desk: Desk, owner: Owner, wrong: dict[str, Any]
) -> None:
    error = await desk.refused("create_upload", **{"path": "fine.txt", "size": 1, **wrong})

    assert (error.code, error.status) == ("invalid_arguments", 400)
    assert error.details["arguments"][0]["at"].partition(".")[0] in wrong
    assert await owner.fetchval(FILES, desk.tenant.project_id) == 0


@pytest.mark.promise("STO-04")
async def test_what_is_announced_counts_against_the_quota_until_it_is_deleted(with_rules: Any, owner: Owner) -> None:
    desk = with_rules(quota_bytes=100)
    await owner.execute("UPDATE projects SET approval_policy = 'never'")
    await desk.call("create_upload", path="pending", size=60)

    error = await desk.refused("create_upload", path="more", size=41)
    assert (error.code, error.status) == ("quota_exceeded", 413)
    assert "100 bytes, 40 of them are free, and the file has 41" in error.message
    ready = await desk.file("fits", b"x" * 40)
    assert (await desk.refused("create_upload", path="none", size=1)).code == "quota_exceeded"
    await desk.call("delete_file", file_id=ready)
    await desk.call("create_upload", path="again", size=40)
    assert (
        await owner.fetchval("SELECT bytes FROM project_storage WHERE project_id = $1", desk.tenant.project_id) == 100
    )


@pytest.mark.promise("STO-04")
async def test_uploads_announced_at_once_never_exceed_the_quota_together(with_rules: Any, owner: Owner) -> None:
    desk = with_rules(quota_bytes=100)

    async def announce(number: int) -> str:
        try:
            await desk.call("create_upload", path=f"f{number}", size=30)
        except AppError as error:
            return error.code
        return "added"

    answers = await asyncio.gather(*(announce(number) for number in range(20)))

    assert sorted(answers) == ["added"] * 3 + ["quota_exceeded"] * 17
    assert await owner.fetchval("SELECT sum(size) FROM files WHERE project_id = $1", desk.tenant.project_id) == 90


@pytest.mark.promise("STO-04")
async def test_a_project_may_have_a_quota_of_its_own_which_no_caller_can_change(
    with_rules: Any, owner: Owner, services: Services
) -> None:
    desk = with_rules(quota_bytes=100)
    await owner.execute("INSERT INTO project_storage (project_id, quota) VALUES ($1, 10)", desk.tenant.project_id)

    assert (await desk.refused("create_upload", path="big", size=11)).code == "quota_exceeded"
    await desk.call("create_upload", path="small", size=10)
    async with services.database.transaction(desk.tenant.principal, desk.tenant.project_id) as connection:
        assert await connection.fetchval("SELECT quota FROM project_storage") == 10
        assert not await connection.fetchval("SELECT has_table_privilege('project_storage', 'UPDATE')")


async def test_a_file_longer_than_the_house_allows_is_refused_with_the_most_there_may_be(with_rules: Any) -> None:
    error = await with_rules(largest_bytes=10).refused("create_upload", path="long", size=11)

    assert (error.code, error.status) == ("file_too_large", 413)
    assert error.details["arguments"] == [{"do": "change", "at": "size", "schema": {"maximum": 10}}]
