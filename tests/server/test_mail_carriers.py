"""What carries mail, against servers that speak the real wires: Resend's, and SMTP with STARTTLS and AUTH."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiosmtplib import SMTP

from db.ids import uuid7
from server.integrations import smtp
from server.integrations.resend_platform import PlatformResend
from server.integrations.resend_project import ProjectResend
from server.integrations.smtp import SmtpAccount, SmtpCarrier
from server.mail.carrier import Carried, Carrier, DeferredError, RefusedError, UnconfirmedError
from server.mail.message import Attachment, Message
from tests.fakes.mail_server import PASSWORD, USERNAME, MailServer, mail_server
from tests.fakes.resend_server import KEY, ResendServer, resend
from tools.mailboxes import Mailbox

pytestmark = [pytest.mark.promise("EML-02"), pytest.mark.promise("EML-05")]


def letter(**changes: Any) -> Message:
    message = Message(
        id=uuid7(),
        project_id=uuid7(),
        sender=Mailbox("desk@example.org", "The Desk"),
        to=[Mailbox("ada@example.org", "Ada Ünlü")],
        cc=[Mailbox("bob@example.org")],
        bcc=[Mailbox("eve@example.org")],
        reply_to=[Mailbox("answers@example.org")],
        subject="Grüße aus dem Haus",
        text="Liebe Ada,\n.\nein Punkt allein.\n..zwei\n",
        html="<p>Liebe <b>Ada</b></p>",
        written_at=datetime(2026, 11, 25, 14, 5, tzinfo=UTC),
        attachments=[Attachment("offer.pdf", "application/pdf", b"%PDF\x00\xff")],
        tags={"kind": "offer"},
        unsubscribe="https://inn.example.com/unsubscribe/token",
    )
    return replace(message, **changes)


class Left:
    """Counts how often a mail was said to be leaving."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ResendServer]:
    async with resend() as server:
        yield server


@pytest_asyncio.fixture(params=["sdk", "client"])
async def carrier(request: pytest.FixtureRequest, server: ResendServer) -> AsyncIterator[Carrier]:
    """Both ways to Resend: the SDK for the house's key, our client for a project's."""
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        if request.param == "sdk":
            yield PlatformResend(KEY, client, server.url)
        else:
            yield ProjectResend(KEY, client, server.url)


async def test_resend_gets_the_whole_mail_once_for_its_key(carrier: Carrier, server: ResendServer) -> None:
    message, left = letter(), Left()

    first = await carrier.carry(message, left)
    again = await carrier.carry(message, left)

    assert first == again == Carried(provider_id=server.mails[0]["id"])
    assert len(server.mails) == 1
    mail = server.mails[0]
    assert mail["key"] == f"innkeeper-{message.id}"
    assert (mail["from"], mail["to"]) == ("The Desk <desk@example.org>", ["Ada Ünlü <ada@example.org>"])
    assert (mail["cc"], mail["bcc"], mail["reply_to"]) == (
        ["bob@example.org"],
        ["eve@example.org"],
        ["answers@example.org"],
    )
    assert (mail["subject"], mail["text"], mail["html"]) == (message.subject, message.text, message.html)
    assert mail["attachments"] == [{"filename": "offer.pdf", "content_type": "application/pdf", "content": "JVBERgD/"}]
    assert mail["headers"] == {
        "List-Unsubscribe": "<https://inn.example.com/unsubscribe/token>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert {tag["name"]: tag["value"] for tag in mail["tags"]} == {
        "innkeeper": f"{message.project_id}_{message.id}",
        "kind": "offer",
    }
    assert left.times == 2


REFUSALS: list[tuple[int, str, dict[str, str], type[Exception], float | None, bool]] = [
    (429, "rate_limit_exceeded", {"retry-after": "7"}, DeferredError, 7.0, False),
    (429, "daily_quota_exceeded", {}, DeferredError, None, False),
    (500, "application_error", {}, DeferredError, None, True),
    (503, "service_unavailable", {"retry-after": "nonsense"}, DeferredError, None, True),
    (409, "concurrent_idempotent_requests", {}, DeferredError, None, True),
    (409, "invalid_idempotent_request", {}, UnconfirmedError, None, False),
    (422, "validation_error", {}, RefusedError, None, False),
    (403, "invalid_api_key", {}, RefusedError, None, False),
]


async def test_what_resend_refuses_is_told_apart_by_its_kind(carrier: Carrier, server: ResendServer) -> None:
    for status, name, headers, error, after, perhaps in REFUSALS:
        server.answer(status, name, headers)
        with pytest.raises(error) as caught:
            await carrier.carry(letter(), Left())
        assert str(caught.value) == f"{status} {name}: as the test says"
        if isinstance(caught.value, DeferredError):
            assert (caught.value.after, caught.value.perhaps) == (after, perhaps), name
        assert KEY not in repr(caught.value)
    assert server.mails == []


async def test_a_lost_answer_is_asked_for_again_and_sends_nothing_twice(carrier: Carrier, server: ResendServer) -> None:
    server.hang_up(accepted=True)
    message = letter()

    with pytest.raises(DeferredError) as caught:
        await carrier.carry(message, Left())
    assert caught.value.perhaps
    carried = await carrier.carry(message, Left())

    assert [mail["id"] for mail in server.mails] == [carried.provider_id]


async def test_a_server_that_was_never_reached_has_sent_nothing(unused_url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        for carrier in (PlatformResend(KEY, client, unused_url), ProjectResend(KEY, client, unused_url)):
            with pytest.raises(DeferredError) as caught:
                await carrier.carry(letter(), Left())
            assert not caught.value.perhaps


async def test_accounts_of_projects_are_never_mixed_up(server: ResendServer) -> None:
    keys = [f"re_of_project_{number}" for number in range(8)]
    server.keys.update(keys)
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        house = PlatformResend(KEY, client, server.url)
        carriers: list[Carrier] = [house, *(ProjectResend(key, client, server.url) for key in keys)]
        messages = {carrier.route: [letter() for _ in range(5)] for carrier in carriers}
        await asyncio.gather(
            *(carrier.carry(message, Left()) for carrier in carriers for message in messages[carrier.route])
        )

    sent = {mail["key"]: mail["account"] for mail in server.mails}
    for key, carrier in zip((KEY, *keys), carriers, strict=True):
        assert {sent[message.key] for message in messages[carrier.route]} == {key}
    assert len({carrier.route for carrier in carriers}) == len(carriers)


@pytest.fixture
def unused_url(unused_tcp_port: int) -> str:
    return f"http://127.0.0.1:{unused_tcp_port}"


def account(server: MailServer, **changes: Any) -> SmtpAccount:
    security: smtp.Security = "starttls"
    found = SmtpAccount("127.0.0.1", server.port, security, USERNAME, PASSWORD, server.ca_file)
    return replace(found, **changes)


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS"])
async def test_smtp_takes_the_whole_mail_over_tls_from_a_user(tmp_path: Path, implicit: bool) -> None:
    message, left = letter(), Left()
    async with mail_server(tmp_path, implicit=implicit) as server:
        carrier = SmtpCarrier(account(server, security="tls" if implicit else "starttls"))
        assert await carrier.carry(message, left) == Carried()

    (taken,) = server.taken
    assert (taken.tls, taken.user, left.times) == (True, USERNAME, 1)
    assert (taken.sender, taken.recipients) == (
        "desk@example.org",
        ["ada@example.org", "bob@example.org", "eve@example.org"],
    )
    mail = taken.message
    assert mail["Message-ID"] == f"<{message.id}@example.org>"
    assert (mail["From"], mail["To"], mail["Cc"], mail["Bcc"]) == (
        "The Desk <desk@example.org>",
        "Ada Ünlü <ada@example.org>",
        "bob@example.org",
        None,
    )
    assert (mail["Reply-To"], mail["Subject"]) == ("answers@example.org", message.subject)
    assert mail["List-Unsubscribe"] == "<https://inn.example.com/unsubscribe/token>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == message.text
    assert html.get_content().strip() == message.html
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type(), attached.get_content()) == (
        "offer.pdf",
        "application/pdf",
        b"%PDF\x00\xff",
    )


async def test_a_certificate_that_nobody_signed_gets_no_mail(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        with pytest.raises(DeferredError, match="certificate"):
            await SmtpCarrier(account(server, ca_file=None)).carry(letter(), Left())
        with pytest.raises(DeferredError, match="535"):
            await SmtpCarrier(account(server, password="wrong")).carry(letter(), Left())
    assert server.taken == []


async def test_a_server_without_tls_gets_mail_only_if_the_operator_says_so(tmp_path: Path) -> None:
    async with mail_server(tmp_path, tls=False) as server:
        with pytest.raises(DeferredError, match="STARTTLS"):
            await SmtpCarrier(account(server)).carry(letter(), Left())
        plain = account(server, security="none", username=None, password=None)
        assert await SmtpCarrier(plain).carry(letter(), Left()) == Carried()
    assert len(server.taken) == 1


@pytest.mark.parametrize(
    ("step", "says", "error"),
    [
        ("MAIL", "451 come again", DeferredError),
        ("MAIL", "550 not you", RefusedError),
        ("RCPT", "450 mailbox busy", DeferredError),
        ("RCPT", "550 no such user", RefusedError),
        ("DATA", "452 disk full", DeferredError),
        (".", "451 try later", DeferredError),
        (".", "554 looks like spam", RefusedError),
    ],
)
async def test_what_an_smtp_server_says_is_told_apart_by_its_kind(
    tmp_path: Path, step: str, says: str, error: type[Exception]
) -> None:
    async with mail_server(tmp_path) as server:
        server.answers[step] = says
        with pytest.raises(error) as caught:
            await SmtpCarrier(account(server)).carry(letter(), Left())
    assert str(caught.value) == says
    assert server.taken == []


async def test_recipients_the_server_will_never_take_do_not_keep_the_others_from_theirs(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        server.answers["bob@example.org"] = "550 no such user"
        carried = await SmtpCarrier(account(server)).carry(letter(), Left())
    assert carried == Carried(refused={"bob@example.org": "550 no such user"})
    assert server.taken[0].recipients == ["ada@example.org", "eve@example.org"]


async def test_a_mail_that_must_not_leave_never_gets_its_last_dot(tmp_path: Path) -> None:
    async def not_now() -> None:
        raise RuntimeError("another attempt has begun")

    async with mail_server(tmp_path) as server:
        with pytest.raises(RuntimeError, match="another attempt"):
            await SmtpCarrier(account(server)).carry(letter(), not_now)
    assert server.taken == []


async def test_a_connection_lost_right_before_the_last_dot_has_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SMTP] = []

    def connecting(**options: Any) -> SMTP:
        made.append(SMTP(**options))
        return made[0]

    async def lost() -> None:
        made[0].close()

    monkeypatch.setattr(smtp, "SMTP", connecting)
    async with mail_server(tmp_path) as server:
        with pytest.raises(DeferredError, match="before the last dot"):
            await SmtpCarrier(account(server)).carry(letter(), lost)
    assert server.taken == []


async def test_before_the_last_dot_a_silent_server_has_sent_nothing_and_after_it_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "SECONDS", 0.2)
    for step in ("EHLO", "MAIL", "RCPT", "DATA"):
        async with mail_server(tmp_path) as server:
            server.stop_at, left = step, Left()
            with pytest.raises(DeferredError):
                await SmtpCarrier(account(server)).carry(letter(), left)
            assert (server.taken, left.times) == ([], 0)
    monkeypatch.setattr(smtp, "SECONDS", 60)
    monkeypatch.setattr(smtp, "LAST_SECONDS", 0.4)
    async with mail_server(tmp_path) as server:
        server.stop_at, left = ".", Left()
        with pytest.raises(UnconfirmedError):
            await SmtpCarrier(account(server)).carry(letter(), left)
        assert (len(server.taken), left.times) == (1, 1)


async def test_a_mail_of_many_megabytes_is_with_the_server_before_it_is_said_to_leave(tmp_path: Path) -> None:
    big = [Attachment("big.bin", "application/octet-stream", b"\x00" * (5 << 20))]
    async with mail_server(tmp_path) as server:
        assert await SmtpCarrier(account(server)).carry(letter(attachments=big), Left()) == Carried()
    (attached,) = server.taken[0].message.iter_attachments()
    assert attached.get_content() == big[0].data


def test_a_mail_to_a_new_line_is_no_mail() -> None:
    for change in (
        {"subject": "Hello\r\nBcc: all@example.org"},
        {"to": [Mailbox("ada@example.org", "Ada\nBcc: all@example.org")]},
        {"unsubscribe": "https://x\r\nX-Evil: 1"},
    ):
        with pytest.raises(ValueError, match=r"(?i)newline|linefeed|CR or LF"):
            letter(**change).mime().as_bytes()
