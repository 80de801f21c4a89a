"""Writing mail: what gets out of a project, what is refused and with what to do about it, through dispatch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from db.errors import AppError
from db.ids import uuid7
from tests.conftest import House, Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.tools.office import LETTER, TO, Office, ready_file
from tools.dispatch import Dispatch
from tools.ports import MailRules, Services

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [
    pytest.mark.promise("EML-01"),
    pytest.mark.usefixtures("unasked"),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_a_mail_is_a_row_and_a_job_of_one_transaction_and_is_read_back(office: Office) -> None:
    sent = await office.send(
        cc=["bob@example.org"],
        bcc=["Eve <eve@example.org>"],
        reply_to=["desk@example.org"],
        html="<p>A <b>word</b>.</p>",
        tags={"kind": "greeting"},
    )

    assert sent == {"id": sent["id"], "status": "queued", "scheduled_at": None}
    job = (await office.jobs())[0]
    assert (job["email_id"], job["project_id"]) == (sent["id"], office.tenant.project_id)
    read = await office.call("get_email", email_id=sent["id"])
    assert (read["to"], read["cc"], read["bcc"], read["reply_to"]) == (
        TO,
        ["bob@example.org"],
        ["Eve <eve@example.org>"],
        ["desk@example.org"],
    )
    assert (read["subject"], read["text"], read["has_html"], read["tags"]) == (
        "Hello",
        "A word.",
        True,
        {"kind": "greeting"},
    )
    assert [(one["event"], one["detail"]) for one in read["events"]] == [("queued", None)]
    listed = await office.call("list_emails")
    assert [(one["id"], one["events"]) for one in listed["emails"]] == [(sent["id"], read["events"])]


BAD_RECIPIENTS = [
    *("ada", "ada@", "@example.org", "ada@example", "ada example@example.org", "ada@@example.org", "a" * 65 + "@x.org"),
    *("jörg@example.org", "ada@[127.0.0.1]", "ada@example.org, bob@example.org", "Ada <ada@example.org>, bob@x.org"),
    *(
        "A <a@x.org> B <b@x.org>",
        "ada@example.org\n",
        "Ada\r\nBcc: bob@x.org <ada@example.org>",
        "ada@exa\u202emple.org",
    ),
    *("Ada\u2028 <ada@example.org>", "\u202eadA <ada@example.org>", "Ada\x00 <ada@example.org>", "ada@-x.org", ""),
]


@pytest.mark.parametrize("place", ["to", "cc", "bcc", "reply_to", "sender"])
async def test_what_is_no_address_is_refused_wherever_it_stands(office: Office, place: str) -> None:
    for text in BAD_RECIPIENTS:
        error = await office.refused(**{place: text if place == "sender" else ["good@example.org", text]})
        assert error.code == "invalid_arguments", text
        assert error.details["arguments"][0]["at"] == (place if place == "sender" else f"{place}.1"), text
    assert await office.written() == []


async def test_addresses_are_kept_in_one_form_whatever_the_way_they_are_written(office: Office) -> None:
    written = [
        '"Lovelace, Ada" <ADA@Example.ORG>',
        "Dr. Grüße <a@bücher.example>",
        "<bob@example.org>",
        "O'Neil <o@x.org>",
    ]
    sent = await office.send(to=written)

    read = await office.call("get_email", email_id=sent["id"])
    assert read["to"] == [
        '"Lovelace, Ada" <ADA@example.org>',
        '"Dr. Grüße" <a@xn--bcher-kva.example>',
        "bob@example.org",
        "O'Neil <o@x.org>",
    ]


@pytest.mark.parametrize("line", ["\r\nBcc: all@example.org", "\nX: y", "\r", "\x0b", "\x00", "\u2028", "\u0085"])
async def test_no_text_of_a_header_can_begin_another_header(office: Office, line: str) -> None:
    for arguments in ({"subject": f"Hello{line}"}, {"tags": {"kind": f"a{line}"}}, {"tags": {f"k{line}": "a"}}):
        assert (await office.refused(**arguments)).code == "invalid_arguments"
    assert await office.written() == []


async def test_a_mail_keeps_to_its_sizes_and_says_them(
    services: Services, tenant: Tenant, owner: Owner, office: Office
) -> None:
    small = Office(
        Dispatch(replace(services, mail=MailRules(content_bytes=100, recipients=2, attachments=1))), tenant, owner
    )
    error = await small.refused(text="x" * 60, html="y" * 41)
    assert (error.code, error.status, error.details["max_bytes"]) == ("email_too_large", 413, 100)
    assert "101 bytes" in error.message
    assert (await small.refused(to=["a@x.org"], cc=["b@x.org"], bcc=["c@x.org"])).code == "too_much_in_email"
    twice = await small.send(to=["a@x.org"], cc=["A@x.org"], bcc=["b@x.org"])
    assert twice["status"] == "queued"
    assert (await office.refused(subject="s" * 301)).code == "invalid_arguments"
    assert (await small.refused("save_template", name="long", subject="s", text="t" * 101)).code == "email_too_large"


async def test_files_are_attached_by_id_and_their_bytes_pass_through_no_model(
    office: Office, store: MemoryStore, house: House
) -> None:
    offer = await ready_file(office, store, "offers/May offer.pdf", b"%PDF", "application/pdf")
    sent = await office.send(attachments=[offer, offer])

    read = await office.call("get_email", email_id=sent["id"])
    assert read["attachments"] == [{"file_id": offer, "name": "May_offer.pdf", "size": 4}]
    pending = await office.call("create_upload", path="pending.txt", size=1)
    for file_id in (pending["id"], str(uuid7())):
        assert (await office.refused(attachments=[file_id])).code == "file_not_found"
    writer = await house.principal(await house.key(office.tenant.user_id, scopes=["email:write"]))
    with pytest.raises(AppError) as caught:
        await office.call("send_email", by=writer, **LETTER, attachments=[offer])
    assert (caught.value.code, caught.value.details) == ("insufficient_scope", {"ask": {"scope": "storage:read"}})


async def test_attachments_that_are_too_large_together_are_refused_with_their_size(
    services: Services, office: Office, store: MemoryStore
) -> None:
    files = [await ready_file(office, store, f"{number}.bin", b"x" * 60) for number in range(2)]
    office.dispatch = Dispatch(replace(services, mail=MailRules(attachment_bytes=100)))
    error = await office.refused(attachments=files)
    assert (error.code, error.details["max_bytes"]) == ("attachments_too_large", 100)
    assert "120 bytes" in error.message
    office.dispatch = Dispatch(replace(services, mail=MailRules(attachments=1)))
    assert (await office.refused(attachments=files)).code == "too_much_in_email"


async def test_a_mail_waits_for_its_time_and_can_be_taken_back_until_then(office: Office) -> None:
    at = datetime.now(UTC) + timedelta(hours=3)
    sent = await office.send(at=at.isoformat())

    assert sent["status"] == "scheduled"
    assert datetime.fromisoformat(sent["scheduled_at"]) == at
    assert (await office.jobs())[0]["execute_after"] == at
    cancelled = await office.call("cancel_email", email_id=sent["id"])
    assert cancelled["status"] == "cancelled"
    assert (await office.call("cancel_email", email_id=sent["id"])) == cancelled
    read = await office.call("get_email", email_id=sent["id"])
    assert [one["event"] for one in read["events"]] == ["scheduled", "cancelled"]
    queued = await office.send()
    error = await office.refused("cancel_email", email_id=queued["id"])
    assert (error.code, error.details) == ("email_not_scheduled", {"next_tool": "get_email"})


async def test_a_time_is_one_of_the_coming_year_with_its_zone(office: Office) -> None:
    now = datetime.now(UTC)
    for at in (now - timedelta(minutes=2), now + timedelta(days=366)):
        assert "next 365 days" in (await office.refused(at=at.isoformat())).message
    assert (await office.refused(at="2026-12-01T10:00:00")).code == "invalid_arguments"
    assert (await office.send(at=(now - timedelta(seconds=30)).isoformat()))["status"] == "queued"


async def test_a_sender_is_the_houses_own_or_of_a_domain_that_is_the_projects(office: Office) -> None:
    sent = await office.send()
    assert (await office.call("get_email", email_id=sent["id"]))["sender"] == "Innkeeper <innkeeper@localhost>"
    error = await office.refused(sender="boss@example.org")
    assert (error.code, error.status) == ("sender_not_allowed", 403)
    assert "innkeeper@localhost" in error.hint

    await office.owner.execute(
        "INSERT INTO email_accounts (project_id, sender, domains) VALUES ($1, $2, $3)",
        *(office.tenant.project_id, "The Desk <desk@example.org>", ["example.org", "mail.example.org"]),
    )
    for given, expected in (
        (None, "The Desk <desk@example.org>"),
        ("Ada <ada@mail.example.org>", "Ada <ada@mail.example.org>"),
        ("Other name <desk@example.org>", "Other name <desk@example.org>"),
    ):
        sent = await office.send(sender=given)
        assert (await office.call("get_email", email_id=sent["id"]))["sender"] == expected
    for foreign in ("ada@notexample.org", "ada@sub.mail.example.org", "Innkeeper <innkeeper@example.com>"):
        assert (await office.refused(sender=foreign)).code == "sender_not_allowed"


async def test_a_retried_send_sends_once(office: Office) -> None:
    later = (datetime.now(UTC) + timedelta(seconds=70)).isoformat()
    answers = await asyncio.gather(*(office.call("send_email", key="once", **LETTER, at=later) for _ in range(5)))

    assert len({answer["id"] for answer in answers}) == 1
    assert len(await office.written()) == len(await office.jobs()) == 1


async def test_a_refused_mail_leaves_neither_row_nor_job(office: Office) -> None:
    await office.refused(to=["nobody"])
    await office.suppress("ada@example.org", "bounced")
    await office.refused()
    assert (await office.written(), await office.jobs()) == ([], [])
