"""What comes in about mail: webhooks of Resend, forged, late, repeated and true, and people who want no more of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from db.credentials import Authenticator
from db.email_accounts import SEALED
from db.ids import uuid7
from tests.conftest import Owner, Tenant
from tests.fakes.resend_server import KEY, SECRET, ResendServer, event, resend, signed
from tests.server.posting import Mailroom, browsing, mailroom
from tools.ports import Services

pytestmark = [pytest.mark.promise("EML-03"), pytest.mark.usefixtures("unasked")]
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret, of a project").decode()
HOUSE = "/webhooks/resend"


@dataclass
class Corner:
    """A post room that has sent a mail by the house's account, and the address its webhooks come to."""

    room: Mailroom
    provider: ResendServer
    web: httpx2.AsyncClient
    email_id: UUID

    @property
    def mail(self) -> dict[str, Any]:
        return next(one for one in self.provider.mails if one["key"] == f"innkeeper-{self.email_id}")

    async def tell(
        self, kind: str, *, to: str = HOUSE, body: bytes | None = None, headers: Any = None, **data: Any
    ) -> httpx2.Response:
        body = body if body is not None else event(kind, self.mail, **data)
        given = headers if headers is not None else signed(body, message_id=f"msg_{uuid7()}")
        return await self.web.post(to, content=body, headers=given)

    async def told(self, kind: str, **more: Any) -> str:
        answer = await self.tell(kind, **more)
        assert answer.status_code == 200
        return str(answer.json()["outcome"])

    async def status(self) -> str:
        return str((await self.room.row(self.email_id))["status"])

    async def suppressed(self) -> dict[str, str]:
        rows = await self.room.owner.fetch("SELECT address, reason FROM suppressions")
        return {row["address"]: row["reason"] for row in rows}


@pytest_asyncio.fixture
async def corner(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> AsyncIterator[Corner]:
    async with resend() as provider:
        environ = {
            "RESEND_API_KEY": KEY,
            "RESEND_API_URL": provider.url,
            "RESEND_WEBHOOK_SECRET": SECRET,
            "EMAIL_FROM_DEFAULT": "Inn <inn@example.com>",
        }
        async with mailroom(services, tenant, owner, environ) as room, browsing(room, authenticator) as web:
            del web.headers["origin"]
            async with room.working():
                email_id = await room.send(to=["Ada <Ada@example.org>"], cc=["bob@example.org"])
                await room.until(email_id, "sent")
            yield Corner(room, provider, web, email_id)


async def own_account(corner: Corner, project_id: UUID) -> None:
    """The project has an account of its own, with a webhook secret of its own."""
    seal = corner.room.post.vault.seal
    await corner.room.owner.execute(
        "INSERT INTO email_accounts (project_id, sender, domains) VALUES ($1, 'desk@example.org', '{example.org}')",
        project_id,
    )
    for kind, text in (("api_key", "re_of_the_project"), ("webhook_secret", OTHER_SECRET)):
        await corner.room.owner.execute(
            "INSERT INTO email_secrets (project_id, id, kind, sealed, created_by) VALUES ($1, $2, $3, $4, $5)",
            *(project_id, uuid7(), kind, seal(project_id, SEALED, text, kind), corner.room.tenant.user_id),
        )


async def test_what_resend_tells_is_in_the_mails_history_and_state(corner: Corner) -> None:
    for kind, status in (
        ("email.delivery_delayed", "sent"),
        ("email.delivered", "delivered"),
        ("email.opened", "delivered"),
        ("email.clicked", "delivered"),
        ("email.sent", "delivered"),
        ("email.complained", "complained"),
        ("email.delivered", "complained"),
    ):
        assert await corner.told(kind) == "taken"
        assert await corner.status() == status, kind
    read = await corner.room.read(corner.email_id)
    assert [one["event"] for one in read["events"]] == [
        *("queued", "sent", "delayed", "delivered", "opened", "clicked", "complained", "delivered"),
    ]


async def test_a_hard_bounce_and_a_complaint_suppress_the_recipients_they_name_and_later_sends_say_so(
    corner: Corner,
) -> None:
    bounce = {"type": "Permanent", "subType": "General", "message": "No such\nmailbox"}
    assert await corner.told("email.bounced", bounce=bounce) == "taken"
    assert await corner.suppressed() == {"ada@example.org": "bounced"}
    read = await corner.room.read(corner.email_id)
    assert (read["status"], read["error"]) == ("bounced", "Permanent: General: No such mailbox")
    assert read["events"][-1]["recipients"] == ["ada@example.org"]
    with pytest.raises(Exception, match=r"ada@example.org \(mail to it bounced\)"):
        await corner.room.send()
    body = event("email.complained", {**corner.mail, "to": ["<bob@example.org>", "<stranger@example.org>"]})
    assert (await corner.tell("", body=body)).json() == {"outcome": "taken"}
    assert await corner.suppressed() == {"ada@example.org": "bounced", "bob@example.org": "complained"}


async def test_a_bounce_that_may_pass_suppresses_nobody(corner: Corner) -> None:
    assert await corner.told("email.bounced", bounce={"type": "Transient", "message": "full"}) == "taken"
    assert (await corner.status(), await corner.suppressed()) == ("bounced", {})


async def test_a_message_counts_once_however_often_and_in_parallel_it_comes(corner: Corner) -> None:
    body = event("email.bounced", corner.mail, bounce={"type": "Permanent"})
    headers = signed(body, message_id="msg_same")
    answers = await asyncio.gather(*(corner.tell("", body=body, headers=headers) for _ in range(5)))

    assert sorted(answer.json()["outcome"] for answer in answers) == ["repeated"] * 4 + ["taken"]
    later = signed(body, message_id="msg_same", at=datetime.now(UTC) + timedelta(seconds=60))
    assert (await corner.tell("", body=body, headers=later)).json() == {"outcome": "repeated"}
    events = [one["event"] for one in (await corner.room.read(corner.email_id))["events"]]
    assert events.count("bounced") == 1


async def test_what_is_not_signed_as_it_must_be_changes_nothing(corner: Corner) -> None:
    body = event("email.bounced", corner.mail, bounce={"type": "Permanent"})
    good = signed(body)
    now = datetime.now(UTC)
    forged: list[tuple[bytes, dict[str, str]]] = [
        (body, {}),
        (body + b" ", good),
        (body.replace(b'"type"', b'"type" '), good),
        (body, {**good, "svix-id": "msg_2"}),
        (body, {**good, "svix-timestamp": str(int(good["svix-timestamp"]) + 1)}),
        (body, {**good, "svix-timestamp": "nan"}),
        (body, {**good, "svix-timestamp": "9" * 400}),
        (body, {**good, "svix-signature": "v1"}),
        (body, {**good, "svix-signature": "v1,"}),
        (body, {**good, "svix-signature": "v1,!!!"}),
        (body, {**good, "svix-signature": good["svix-signature"].replace("v1,", "v2,")}),
        (body, signed(body, secret=OTHER_SECRET)),
        (body, signed(body, at=now - timedelta(seconds=301))),
        (body, signed(body, at=now + timedelta(seconds=302))),
        (b"\xff\xfe", {**good}),
    ]
    for content, headers in forged:
        answer = await corner.tell("", body=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:innkeeper:error:webhook_refused")
    assert (await corner.status(), await corner.suppressed()) == ("sent", {})
    several = {**good, "svix-signature": f"v1a,xx junk v1,AAAA {good['svix-signature']}"}
    assert (await corner.tell("", body=body, headers=several)).json() == {"outcome": "taken"}


async def test_the_standards_own_header_names_and_a_skew_of_four_minutes_are_taken(corner: Corner) -> None:
    for number, minutes in enumerate((-4, 4)):
        body = event("email.opened", corner.mail)
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        headers = signed(body, message_id=f"msg_{number}", at=at, prefix="webhook-")
        assert (await corner.tell("", body=body, headers=headers)).json() == {"outcome": "taken"}


async def test_what_is_no_event_about_mail_of_ours_is_taken_calmly(corner: Corner) -> None:
    foreign = {"id": "elsewhere", "from": "x", "to": ["<a@x.org>"], "subject": "x", "tags": []}
    nonsense = [{"name": "innkeeper", "value": "nonsense"}]
    nobodys = [{"name": "innkeeper", "value": f"{uuid7()}_{uuid7()}"}]
    for body, status, outcome in (
        (b'{"type": "contact.created", "data": {}}', 200, "ignored"),
        (event("email.delivered", foreign), 200, "unknown"),
        (event("email.delivered", {**foreign, "tags": nonsense}), 200, "unknown"),
        (event("email.delivered", {**foreign, "tags": nobodys}), 200, "unknown"),
        (b"[]", 400, None),
        (b'{"type": "email.bounced"}', 400, None),
        (b'{"type": "email.bounced", "data": {"to": 7}}', 400, None),
        (b"not json", 400, None),
    ):
        answer = await corner.tell("", body=body)
        assert answer.status_code == status, body
        assert answer.json().get("outcome") == outcome, body


async def test_events_find_their_mail_by_tags_in_either_form_and_by_the_providers_id(corner: Corner) -> None:
    tags = [{"name": tag["name"], "value": tag["value"]} for tag in corner.mail["tags"]]
    assert await corner.told("email.opened", tags=tags) == "taken"
    assert await corner.told("email.opened", tags={}) == "taken"
    assert await corner.told("email.opened", tags={}, email_id="another") == "unknown"


async def test_news_that_overtakes_our_own_commit_is_not_lost(corner: Corner) -> None:
    await corner.room.owner.execute(
        "UPDATE emails SET status = 'sending', provider_id = NULL, sent_at = NULL WHERE id = $1", corner.email_id
    )
    assert await corner.told("email.delivered") == "taken"
    row = await corner.room.row(corner.email_id)
    assert (row["status"], row["provider_id"]) == ("delivered", corner.mail["id"])


async def test_each_endpoint_has_its_own_secret_and_speaks_for_its_own_mail(corner: Corner, stranger: Tenant) -> None:
    project_id = corner.room.tenant.project_id
    for endpoint in (f"{HOUSE}/{project_id}", f"{HOUSE}/{uuid7()}"):
        refused = await corner.tell("email.bounced", to=endpoint)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:innkeeper:error:webhook_refused")
    await own_account(corner, project_id)
    corner.provider.keys.add("re_of_the_project")
    async with corner.room.working():
        house_mail, corner.email_id = corner.email_id, await corner.room.send()
        await corner.room.until(corner.email_id, "sent")
    assert corner.mail["account"] == "re_of_the_project"
    assert corner.mail["from"] == "desk@example.org"

    body = event("email.delivered", corner.mail)
    by_project = signed(body, secret=OTHER_SECRET, message_id="msg_p")
    assert (await corner.tell("", body=body)).json() == {"outcome": "unknown"}
    assert (await corner.tell("", body=body, headers=by_project)).status_code == 403
    own = await corner.tell("", to=f"{HOUSE}/{project_id}", body=body, headers=by_project)
    assert own.json() == {"outcome": "taken"}
    assert await corner.status() == "delivered"

    await own_account(corner, stranger.project_id)
    theirs = signed(body, secret=OTHER_SECRET, message_id="msg_s")
    foreign = await corner.tell("", to=f"{HOUSE}/{stranger.project_id}", body=body, headers=theirs)
    assert foreign.json() == {"outcome": "unknown"}
    assert (await corner.room.row(house_mail))["status"] == "sent"


async def test_a_reader_leaves_with_one_click_and_without_signing_in(corner: Corner) -> None:
    await corner.room.owner.execute(
        "INSERT INTO contacts (project_id, id, address) VALUES ($1, gen_random_uuid(), 'ada@example.org')",
        corner.room.tenant.project_id,
    )
    async with corner.room.working():
        corner.email_id = await corner.room.send(audience=True)
        await corner.room.until(corner.email_id, "sent")
    path = corner.mail["headers"]["List-Unsubscribe"].strip("<>").removeprefix("https://inn.example.test")

    asked = await corner.web.get(path)
    assert (asked.status_code, "<button" in asked.text) == (200, True)
    assert "tenant&#39;s project" in asked.text
    assert await corner.room.owner.fetchval("SELECT subscribed FROM contacts")
    form = {"content-type": "application/x-www-form-urlencoded"}
    for _ in range(2):
        left = await corner.web.post(path, content=b"List-Unsubscribe=One-Click", headers=form)
        assert (left.status_code, "You are unsubscribed" in left.text) == (200, True)
    assert not await corner.room.owner.fetchval("SELECT subscribed FROM contacts")
    events = [one["event"] for one in (await corner.room.read(corner.email_id))["events"]]
    assert events.count("unsubscribed") == 1
    assert "You are unsubscribed" in (await corner.web.get(path)).text


async def test_a_link_that_we_did_not_make_leads_nowhere(corner: Corner) -> None:
    links = corner.room.post.links
    known = links.of_contact(corner.room.tenant.project_id, uuid7(), corner.email_id).rpartition("/")[2]
    flipped = known[:40] + ("A" if known[40] != "A" else "B") + known[41:]
    assert links.read(known) is not None
    for token in (flipped, known[:-4], "A" + known, "A" * len(known), "x", "%00", "é"):
        assert links.read(token) is None, token
        assert (await corner.web.post(f"/unsubscribe/{token}")).status_code == 404, token
    assert (await corner.web.get(f"/unsubscribe/{known}")).status_code == 404
