"""What the house writes to people: each kind as it arrives and as Chromium shows it, and once where it is once."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from db import house_mails
from db.ids import uuid7
from server.mail.house import SUBJECTS, UNASKED, render, sealed
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.resend_server import KEY, ResendServer, resend
from tests.server.posting import Mailroom, mailroom
from tools.ports import Services

pytestmark = pytest.mark.promise("EML-04")
SECRET_LINK = "https://inn.example.test/sign-in/ik_a_link_that_opens"
SOON = timedelta(minutes=10)


@dataclass
class Lodge:
    """A house that sends by Resend, and somebody to write to."""

    room: Mailroom
    provider: ResendServer

    async def until_sent(self, count: int) -> list[dict[str, Any]]:
        async def reached() -> bool:
            waiting = "SELECT count(*) FROM house_mails WHERE status IN ('queued', 'sending')"
            return len(self.provider.mails) >= count and not await self.room.owner.fetchval(waiting)

        async with self.room.working():
            await eventually(reached)
        return self.provider.mails

    def link(self) -> bytes:
        return sealed(self.room.post.keyring, SECRET_LINK)


@pytest_asyncio.fixture
async def lodge(services: Services, tenant: Tenant, owner: Owner) -> AsyncIterator[Lodge]:
    async with resend() as provider:
        environ = {
            "RESEND_API_KEY": KEY,
            "RESEND_API_URL": provider.url,
            "RESEND_AUDIENCE_ID": "newcomers",
            "EMAIL_FROM_DEFAULT": "Inn <inn@example.com>",
        }
        async with mailroom(services, tenant, owner, environ) as room:
            yield Lodge(room, provider)


async def test_a_new_account_is_welcomed_once_and_joins_the_audience(lodge: Lodge) -> None:
    user_id = lodge.room.tenant.user_id
    async with lodge.room.database.system() as connection:
        assert await house_mails.queue_welcome(connection, user_id)
        assert not await house_mails.queue_welcome(connection, user_id)
        assert not await house_mails.queue_welcome(connection, uuid7())
    (mail,) = await lodge.until_sent(1)
    address = await lodge.room.owner.fetchval("SELECT email FROM users WHERE id = $1", user_id)
    assert (mail["subject"], mail["to"]) == ("Welcome to Innkeeper", [f"tenant <{address}>"])
    assert mail["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    async def joined() -> bool:
        return lodge.provider.segments == {"newcomers": {address}}

    async with lodge.room.working():
        await eventually(joined)


async def test_a_link_that_opens_something_is_sealed_until_it_left_and_never_sent_late(lodge: Lodge) -> None:
    now = datetime.now(UTC)
    async with lodge.room.database.system() as connection:
        await house_mails.queue_magic_link(connection, "New@example.org", lodge.link(), expires_at=now + SOON)
        await house_mails.queue_magic_link(connection, "late@example.org", lodge.link(), expires_at=now - SOON)
        await house_mails.queue_invitation(
            connection, "bob@example.org", lodge.link(), inviter="Ada", project="Engine", expires_at=now + SOON
        )
    rows = await lodge.room.owner.fetch("SELECT variables::text || encode(secret, 'escape') AS kept FROM house_mails")
    assert not any("ik_a_link" in row["kept"] for row in rows)
    mails = await lodge.until_sent(2)

    assert {mail["to"][0]: mail["subject"] for mail in mails} == {
        "new@example.org": "Your link to sign in to Innkeeper",
        "bob@example.org": "Ada invites you to Engine",
    }
    for mail in mails:
        assert SECRET_LINK in mail["text"]
        assert f'href="{SECRET_LINK}"' in mail["html"]
        assert "headers" not in mail
    rows = await lodge.room.owner.fetch("SELECT address, status, error, secret FROM house_mails")
    assert all(row["secret"] is None for row in rows)
    late = next(row for row in rows if row["address"] == "late@example.org")
    assert (late["status"], "expired" in late["error"]) == ("failed", True)


async def test_the_first_message_of_an_account_is_told_once(lodge: Lodge) -> None:
    owner, tenant = lodge.room.owner, lodge.room.tenant
    for number in range(2):
        thread = uuid7()
        await owner.execute(
            "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, $3)",
            *(tenant.project_id, thread, f"thread {number}"),
        )
        await owner.execute(
            "INSERT INTO runs (project_id, id, thread_id, external_id, credential_id, user_id, agent, input_digest)"
            " VALUES ($1, $2, $3, $4, $5, $6, 'default', 'x')",
            *(tenant.project_id, uuid7(), thread, str(number), tenant.principal.credential_id, tenant.user_id),
        )
    (mail,) = await lodge.until_sent(1)
    assert mail["subject"] == SUBJECTS["first_message"]
    assert "tenant's project" in mail["text"]


async def test_a_used_up_budget_is_told_once_and_who_unsubscribed_gets_only_what_they_ask_for(lodge: Lodge) -> None:
    tenant, owner = lodge.room.tenant, lodge.room.owner
    await owner.execute("UPDATE users SET email = 'ada@example.org', name = 'Ada' WHERE id = $1", tenant.user_id)
    await owner.execute("UPDATE projects SET name = 'Desk', monthly_messages = 500 WHERE id = $1", tenant.project_id)
    for messages in (499, 1, 1):
        await owner.execute("SELECT add_usage($1, NULL, $2, 0, 0, 0, 0, 0)", tenant.project_id, messages)
    (mail,) = await lodge.until_sent(1)
    assert (mail["subject"], mail["to"]) == ("Desk has used up its messages of this month", ["Ada <ada@example.org>"])
    assert "500 messages" in mail["text"]
    reader = lodge.room.post.links.read(mail["headers"]["List-Unsubscribe"].strip("<>").rpartition("/")[2])
    assert reader is not None
    async with lodge.room.database.ops() as connection:
        assert await connection.fetchval("SELECT leave_house_audience($1)", reader.mail_id)
    async with lodge.room.database.system() as connection:
        await owner.execute("UPDATE projects SET monthly_usd = 0.000 WHERE id = $1", tenant.project_id)
        await house_mails.queue_magic_link(
            connection, "ada@example.org", lodge.link(), expires_at=datetime.now(UTC) + SOON
        )
    mails = await lodge.until_sent(2)
    assert [one["subject"] for one in mails[1:]] == [SUBJECTS["magic_link"]]


VARIABLES = {
    "welcome": {},
    "first_message": {"project": "Support <desk>", "project_id": "x"},
    "magic_link": {},
    "invitation": {"inviter": "Ada", "project": "A project with a rather long name that has to wrap somewhere"},
    "message_limit": {
        "project": "Support desk",
        "what": "messages",
        "limit": "500 messages",
        "renews": "1 January",
        "project_id": "x",
    },
}


async def test_every_mail_is_seen_in_light_and_dark_and_fits_a_phone(tmp_path: Path) -> None:
    from playwright.async_api import async_playwright

    assert set(VARIABLES) == set(SUBJECTS)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme, dark in (("light", False), ("dark", True)):
            context = await chromium.new_context(color_scheme=scheme, viewport={"width": 360, "height": 640})  # type: ignore[arg-type]  # one of the two
            page = await context.new_page()
            for kind, variables in VARIABLES.items():
                mail = render(
                    kind,
                    variables,
                    name="Grace",
                    house_url="https://inn.example.test",
                    link=SECRET_LINK + "a1B2" * 20 if kind not in UNASKED else "",
                    expires_at=datetime.now(UTC) + SOON if kind not in UNASKED else None,
                    unsubscribe="https://inn.example.test/unsubscribe/x" if kind in UNASKED else None,
                )
                assert mail.text.strip()
                assert "<" not in mail.text.replace("<desk>", "")
                await page.set_content(mail.html)
                assert await page.evaluate("document.documentElement.scrollWidth") <= 360, (kind, scheme)
                ground, ink = await page.evaluate(
                    "[getComputedStyle(document.querySelector('.card')).backgroundColor,"
                    " getComputedStyle(document.querySelector('h1')).color]"
                )
                assert contrast(ground, ink) > 7, (kind, scheme)
                assert (brightness(ground) < 0.2) is dark, (kind, scheme)
                assert len(await page.screenshot(path=tmp_path / f"{kind}-{scheme}.png")) > 4000
            await context.close()
        await chromium.close()


def brightness(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)
