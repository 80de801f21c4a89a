"""Workers killed at every step of a delivery: no mail is sent twice, and none is lost without a word."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.mail_server import PASSWORD, USERNAME, MailServer, mail_server
from tests.fakes.resend_server import KEY, resend
from tests.server.dying_post import PID, STEPS
from tests.server.posting import mailroom
from tools.ports import Services

pytestmark = [pytest.mark.promise("EML-01", "EML-05"), pytest.mark.usefixtures("unasked")]
ROOT = Path(__file__).parents[2]


async def workers(urls: DatabaseUrls, environ: Mapping[str, str], plan: Mapping[str, str], marks: Path) -> int:
    """Workers, one after the other, until no mail waits: how many of them died."""
    marks.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.server.dying_post", urls.app, urls.ops, json.dumps(plan), str(marks)),
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said: dict[str, Any] = json.loads(out)
    assert said["code"] == 0, err.decode()
    return int(said["died"])


async def killed(
    urls: DatabaseUrls, services: Services, tenant: Tenant, owner: Owner, environ: Mapping[str, str], marks: Path
) -> dict[str, tuple[UUID, str]]:
    """A mail for each step, delivered by workers that die there: its id and the state it is in at the end."""
    async with mailroom(services, tenant, owner, environ) as room:
        ids = {step: await room.send(subject=step) for step in STEPS}
        plan = {str(email_id): step for step, email_id in ids.items()}
        assert await workers(urls, environ, plan, marks) == len(STEPS)
        return {step: (email_id, (await room.row(email_id))["status"]) for step, email_id in ids.items()}


def by_smtp(server: MailServer) -> dict[str, str]:
    return {
        "SMTP_HOST": server.host,
        "SMTP_PORT": str(server.port),
        "SMTP_USERNAME": USERNAME,
        "SMTP_PASSWORD": PASSWORD,
        "SMTP_CA_FILE": server.ca_file,
        "EMAIL_FROM_DEFAULT": "inn@example.com",
    }


async def test_by_resend_every_mail_is_sent_exactly_once(
    urls: DatabaseUrls, services: Services, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    async with resend() as provider:
        environ = {"RESEND_API_KEY": KEY, "RESEND_API_URL": provider.url, "EMAIL_FROM_DEFAULT": "inn@example.com"}
        found = await killed(urls, services, tenant, owner, environ, tmp_path / "marks")
    assert {step: status for step, (_id, status) in found.items()} == dict.fromkeys(STEPS, "sent")
    assert sorted(mail["subject"] for mail in provider.mails) == sorted(STEPS)
    # What was handed over more than once was so under its one key.
    assert len(provider.requests) > len(provider.mails)


async def test_by_smtp_no_mail_is_sent_twice_and_what_nobody_can_know_is_said(
    urls: DatabaseUrls, services: Services, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    async with mail_server(tmp_path) as server:
        found = await killed(urls, services, tenant, owner, by_smtp(server), tmp_path / "marks")
    taken = [str(one.message["Subject"]) for one in server.taken]
    assert {step: (status, taken.count(step)) for step, (_id, status) in found.items()} == {
        "begun": ("sent", 1),
        "leaving": ("sent", 1),
        # One dot was missing. It is not sent again by itself, and its state says that a person should look.
        "left": ("unconfirmed", 0),
        "sent": ("unconfirmed", 1),
        "settling": ("unconfirmed", 1),
        "recorded": ("sent", 1),
    }


LAST_LINE = "And this is the end."
DEATHS = ("connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "first line", "all but the dot", ".", "kept")


class Deadly(MailServer):
    """Kills the worker that talks to it at each of DEATHS, once. While it does, no worker writes down anything."""

    def __init__(self, database: asyncpg.Connection, marks: Path) -> None:
        super().__init__()
        self.left = list(DEATHS)
        self._database = database
        self._marks = marks
        self._holding: Any = None

    async def step(self, name: str) -> str | None:
        next_death = self.left[0] if self.left else None
        if name == "DATA" and next_death in ("first line", "all but the dot"):
            await self._hold()
            self.cut_after = b"\r\n" if next_death == "first line" else f"{LAST_LINE}\r\n".encode()
        if name == "." and next_death == "kept":
            await self._hold()
        if name == next_death or (name == "cut" and self.cut_after is not None):
            await self._kill()
            return "421 to nobody any more"
        return None

    async def _hold(self) -> None:
        self._holding = self._database.transaction()
        await self._holding.start()
        await self._database.execute("SELECT FROM emails FOR UPDATE")

    async def _kill(self) -> None:
        self.left.pop(0)
        self.cut_after = None
        os.kill(int((self._marks / PID).read_text()), signal.SIGKILL)
        if self._holding is not None:
            await self._holding.rollback()
            self._holding = None


async def test_a_worker_killed_by_what_the_mail_server_sees_sends_each_mail_exactly_once(
    urls: DatabaseUrls, services: Services, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    database = await asyncpg.connect(urls.superuser)
    try:
        deadly = Deadly(database, tmp_path / "marks")
        async with mail_server(tmp_path, server=deadly) as server, mailroom(services, tenant, owner) as room:
            ids = [await room.send(subject=death, text=f"A word.\n{LAST_LINE}") for death in DEATHS]
            died = await workers(urls, by_smtp(server), {}, tmp_path / "marks")
            statuses = Counter([(await room.row(email_id))["status"] for email_id in ids])
    finally:
        await database.close()
    assert (died, deadly.left) == (len(DEATHS), [])
    assert sorted(str(one.message["Subject"]) for one in server.taken) == sorted(DEATHS)
    # With the dot it was taken, but whoever died before writing that down cannot know.
    assert statuses == {"sent": len(DEATHS) - 2, "unconfirmed": 2}
