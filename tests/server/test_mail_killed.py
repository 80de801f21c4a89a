"""Workers killed at every step of a delivery: no mail is sent twice, and none is lost without a word."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.mail_server import PASSWORD, USERNAME, mail_server
from tests.fakes.resend_server import KEY, resend
from tests.server.dying_post import STEPS
from tests.server.posting import mailroom
from tools.ports import Services

pytestmark = [pytest.mark.promise("EML-01", "EML-05"), pytest.mark.usefixtures("unasked")]
ROOT = Path(__file__).parents[2]


async def killed(
    urls: DatabaseUrls, services: Services, tenant: Tenant, owner: Owner, environ: Mapping[str, str], marks: Path
) -> dict[str, tuple[UUID, str]]:
    """A mail for each step, delivered by workers that die there: its id and the state it is in at the end."""
    async with mailroom(services, tenant, owner, environ) as room:
        ids = {step: await room.send(subject=step) for step in STEPS}
        plan = json.dumps({str(email_id): step for step, email_id in ids.items()})
        marks.mkdir()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.server.dying_post", urls.app, urls.ops, plan, str(marks)),
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(100):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        said: dict[str, Any] = json.loads(out)
        assert said == {"died": len(STEPS), "code": 0}, err.decode()
        return {step: (email_id, (await room.row(email_id))["status"]) for step, email_id in ids.items()}


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
        environ = {
            "SMTP_HOST": server.host,
            "SMTP_PORT": str(server.port),
            "SMTP_USERNAME": USERNAME,
            "SMTP_PASSWORD": PASSWORD,
            "SMTP_CA_FILE": server.ca_file,
            "EMAIL_FROM_DEFAULT": "inn@example.com",
        }
        found = await killed(urls, services, tenant, owner, environ, tmp_path / "marks")
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
