"""From the outbox to the provider: what is delivered, what is tried again and when, and how each mail ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from server.mail.attempt import WAITS
from tests.conftest import Owner, Tenant
from tests.fakes.mail_server import PASSWORD, USERNAME, MailServer, mail_server
from tests.fakes.memory_store import MemoryStore
from tests.fakes.resend_server import KEY, ResendServer, resend
from tests.server.posting import Mailroom, mailroom
from tools.ports import Services

pytestmark = [pytest.mark.promise("EML-02"), pytest.mark.usefixtures("unasked")]


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[ResendServer]:
    async with resend() as server:
        yield server


def by_resend(server: ResendServer) -> dict[str, str]:
    return {"RESEND_API_KEY": KEY, "RESEND_API_URL": server.url, "EMAIL_FROM_DEFAULT": "Inn <inn@example.com>"}


def by_smtp(server: MailServer) -> dict[str, str]:
    return {
        "SMTP_HOST": server.host,
        "SMTP_PORT": str(server.port),
        "SMTP_USERNAME": USERNAME,
        "SMTP_PASSWORD": PASSWORD,
        "SMTP_CA_FILE": server.ca_file,
        "EMAIL_FROM_DEFAULT": "Inn <inn@example.com>",
    }


@pytest_asyncio.fixture
async def room(provider: ResendServer, services: Services, tenant: Tenant, owner: Owner) -> AsyncIterator[Mailroom]:
    async with mailroom(services, tenant, owner, by_resend(provider)) as room:
        yield room


async def test_without_a_provider_mail_is_kept_to_be_read(services: Services, tenant: Tenant, owner: Owner) -> None:
    async with mailroom(services, tenant, owner) as room, room.working():
        email_id = await room.send()
        read = await room.until(email_id, "kept")
    assert [one["event"] for one in read["events"]] == ["queued", "kept"]
    assert read["sent_at"] is None


async def test_resend_gets_the_mail_with_its_attachments_and_the_row_knows_it(
    room: Mailroom, provider: ResendServer, store: MemoryStore
) -> None:
    project = {"project_id": str(room.tenant.project_id)}
    made = await room.dispatch.call(room.tenant.principal, "create_upload", {**project, "path": "a.bin", "size": 3})
    store.send(f"files/{room.tenant.project_id}/{made.structured['id']}", b"\x00\x01\x02")
    await room.dispatch.call(room.tenant.principal, "confirm_upload", {**project, "file_id": made.structured["id"]})
    async with room.working():
        email_id = await room.send(attachments=[made.structured["id"]], html="<p>A word.</p>")
        read = await room.until(email_id, "sent")

    (mail,) = provider.mails
    assert (mail["from"], mail["to"], mail["subject"]) == ("Inn <inn@example.com>", ["Ada <ada@example.org>"], "Hello")
    assert mail["attachments"] == [{"filename": "a.bin", "content_type": "application/octet-stream", "content": "AAEC"}]
    assert mail["key"] == f"innkeeper-{email_id}"
    assert (await room.row(email_id))["provider_id"] == mail["id"]
    assert [one["event"] for one in read["events"]] == ["queued", "sent"]
    assert read["sent_at"] is not None


async def test_smtp_delivers_where_there_is_no_resend(
    services: Services, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    async with mail_server(tmp_path) as server, mailroom(services, tenant, owner, by_smtp(server)) as room:
        server.answers["bob@example.org"] = "550 no such user"
        async with room.working():
            email_id = await room.send(cc=["bob@example.org"])
            read = await room.until(email_id, "sent")
    (taken,) = server.taken
    assert (taken.tls, taken.user, taken.message["Message-ID"]) == (True, USERNAME, f"<{email_id}@example.com>")
    assert [(one["event"], one["detail"], one["recipients"]) for one in read["events"]] == [
        ("queued", None, []),
        ("sent", None, []),
        ("failed", "550 no such user", ["bob@example.org"]),
    ]


async def test_a_mail_leaves_at_its_time_and_not_before_and_never_when_it_was_taken_back(
    room: Mailroom, provider: ResendServer
) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    async with room.working():
        later, taken_back, now = await room.send(at=at), await room.send(at=at), await room.send()
        await room.until(now, "sent")
        given = {"project_id": str(room.tenant.project_id), "email_id": str(taken_back)}
        await room.dispatch.call(room.tenant.principal, "cancel_email", given)
        assert (await room.row(later))["status"] == "scheduled"
        await room.hurry()
        await room.until(later, "sent")
    assert [mail["key"] for mail in provider.mails] == [f"innkeeper-{now}", f"innkeeper-{later}"]
    assert (await room.row(taken_back))["status"] == "cancelled"


async def test_what_the_provider_cannot_take_now_is_tried_again_not_before_it_says(
    room: Mailroom, provider: ResendServer
) -> None:
    provider.answer(429, "rate_limit_exceeded", {"retry-after": "90"})
    provider.answer(500)
    async with room.working():
        email_id = await room.send()
        await room.until_deferred(email_id, 1)
        assert await due_in(room) > 80
        assert (await room.row(email_id))["route"] is None
        await room.hurry()
        await room.until_deferred(email_id, 2)
        assert WAITS[1] - 10 < await due_in(room) <= WAITS[1]
        assert (await room.row(email_id))["route"].startswith("house-resend/")
        await room.hurry()
        read = await room.until(email_id, "sent")
    assert [(one["event"], one["detail"]) for one in read["events"]] == [
        ("queued", None),
        ("deferred", "429 rate_limit_exceeded: as the test says"),
        ("deferred", "500 application_error: as the test says"),
        ("sent", None),
    ]
    assert len(provider.mails) == 1


async def due_in(room: Mailroom) -> float:
    query = "SELECT extract(epoch FROM execute_after - now()) FROM ops.pgqueuer WHERE status = 'queued'"
    return float(await room.owner.fetchval(query))


async def test_a_mail_that_is_refused_for_good_ends_failed_with_the_providers_words(
    room: Mailroom, provider: ResendServer
) -> None:
    provider.answer(422, "validation_error")
    async with room.working():
        email_id = await room.send()
        read = await room.until(email_id, "failed")
    assert read["error"] == "422 validation_error: as the test says"
    assert [one["event"] for one in read["events"]] == ["queued", "failed"]
    left = "SELECT count(*) FROM ops.pgqueuer WHERE status IN ('queued', 'picked', 'failed')"
    assert await room.owner.fetchval(left) == 0


async def test_after_a_day_of_attempts_a_mail_ends_and_says_whether_it_may_have_been_sent(
    room: Mailroom, provider: ResendServer
) -> None:
    async with room.working():
        for status, ending in ((429, "failed"), (500, "unconfirmed")):
            provider.answer(status)
            email_id = await room.send()
            await room.until_deferred(email_id)
            await room.owner.execute("UPDATE emails SET attempts = $2 WHERE id = $1", email_id, len(WAITS))
            provider.answer(status)
            await room.hurry()
            read = await room.until(email_id, "failed", "unconfirmed")
            assert read["status"] == ending
            assert read["error"].startswith(f"given up after {len(WAITS) + 1} attempts: {status}")
    assert sum(WAITS) < 23 * 3600


async def test_a_mail_that_may_be_on_its_way_is_never_sent_by_another_route(
    provider: ResendServer, services: Services, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    provider.hang_up(accepted=True)
    async with mailroom(services, tenant, owner, by_resend(provider)) as room, room.working():
        email_id = await room.send()
        await room.until_deferred(email_id)
    async with (
        mail_server(tmp_path) as server,
        mailroom(services, tenant, owner, by_smtp(server)) as room,
        room.working(),
    ):
        await room.hurry()
        read = await room.until(email_id, "sent", "unconfirmed", "failed")
    assert read["status"] == "unconfirmed"
    assert "the answer was lost" in read["error"]
    assert (len(provider.mails), server.taken) == (1, [])


async def test_an_idempotency_key_that_the_provider_has_forgotten_is_not_relied_on(
    room: Mailroom, provider: ResendServer
) -> None:
    provider.hang_up(accepted=True)
    async with room.working():
        email_id = await room.send()
        await room.until_deferred(email_id)
        await room.owner.execute("UPDATE emails SET handed_over_at = now() - interval '23 hours'")
        await room.hurry()
        await room.until(email_id, "unconfirmed")
    assert len(provider.mails) == 1


async def test_who_may_not_be_written_to_any_more_at_its_time_is_left_out(
    room: Mailroom, provider: ResendServer, owner: Owner
) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    both = await room.send(at=at, cc=["Gone <gone@example.org>"])
    alone = await room.send(at=at, to=["gone@example.org"])
    await owner.execute(
        "INSERT INTO suppressions (project_id, address, reason) VALUES ($1, 'gone@example.org', 'bounced')",
        room.tenant.project_id,
    )
    provider.answer(500)
    await room.hurry()
    async with room.working():
        await room.until(alone, "failed")
        await room.until_deferred(both)
        await owner.execute("DELETE FROM suppressions")
        await room.hurry()
        read = await room.until(both, "sent")
    assert [(one["event"], one["recipients"]) for one in read["events"]][1:] == [
        ("suppressed", ["gone@example.org"]),
        ("deferred", []),
        ("sent", []),
    ]
    (mail,) = provider.mails
    assert "cc" not in mail
    assert "suppressed" in (await room.read(alone))["error"]


async def test_mail_for_an_audience_carries_a_way_out_in_its_headers_and_at_its_end(
    room: Mailroom, provider: ResendServer
) -> None:
    await room.owner.execute(
        "INSERT INTO contacts (project_id, id, address) VALUES ($1, gen_random_uuid(), 'ada@example.org')",
        room.tenant.project_id,
    )
    async with room.working():
        plain = await room.send(audience=True, html="<html><body><p>News</p></body></html>")
        await room.until(plain, "sent")
        placed = await room.send(
            audience=True, text="News. Bye: {{ unsubscribe_url }}", html='<a href="{{unsubscribe_url}}">Bye</a>'
        )
        await room.until(placed, "sent")
        late = await room.send(audience=True, at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        await room.owner.execute("UPDATE contacts SET subscribed = false")
        await room.hurry()
        assert (await room.until(late, "failed"))["error"] == "the contact has unsubscribed since"
    first, second = provider.mails
    url = first["headers"]["List-Unsubscribe"].strip("<>")
    assert url.startswith("https://inn.example.test/unsubscribe/")
    assert first["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert first["text"].endswith(f"Unsubscribe: {url}\n")
    assert f'<a href="{url}"' in first["html"]
    assert first["html"].endswith("</p></body></html>")
    url = second["headers"]["List-Unsubscribe"].strip("<>")
    assert second["text"] == f"News. Bye: {url}"
    assert second["html"] == f'<a href="{url}">Bye</a>'


async def test_an_attachment_that_is_gone_fails_the_mail_and_a_store_that_is_away_delays_it(
    room: Mailroom, provider: ResendServer, store: MemoryStore
) -> None:
    project: dict[str, Any] = {"project_id": str(room.tenant.project_id)}
    made = await room.dispatch.call(room.tenant.principal, "create_upload", {**project, "path": "a.bin", "size": 1})
    key = f"files/{room.tenant.project_id}/{made.structured['id']}"
    store.send(key, b"x")
    await room.dispatch.call(room.tenant.principal, "confirm_upload", {**project, "file_id": made.structured["id"]})
    store.away = True
    async with room.working():
        email_id = await room.send(attachments=[made.structured["id"]])
        assert "cannot be read" in (await room.until_deferred(email_id))["error"]
        store.away = False
        await store.delete([key])
        await room.hurry()
        read = await room.until(email_id, "failed")
    assert read["error"] == "the attachment a.bin is not in the store any more"
    assert provider.mails == []
