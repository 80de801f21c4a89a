"""The pages of mail over HTTP, as people use them: what was kept, its HTML in a frame, and an account of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from db import email_accounts, house_mails
from db.credentials import Authenticator
from server.site.mails import FRAMED
from tests.conftest import House, Owner, Tenant
from tests.fakes.resend_server import SECRET, ResendServer, resend
from tests.server.approving import csrf, sign_in
from tests.server.posting import Mailroom, browsing, mailroom
from tools.ports import Services

pytestmark = [pytest.mark.promise("EML-02"), pytest.mark.usefixtures("unasked")]
EVIL = (
    '<p>Hi</p><script>alert(1)</script><img src="https://tracker.test/x.png"><form action="https://evil.test"></form>'
)


@dataclass
class Desk:
    """Somebody who is signed in, at a house that delivers no mail."""

    room: Mailroom
    web: httpx2.AsyncClient
    provider: ResendServer

    async def kept(self, **arguments: object) -> UUID:
        async with self.room.working():
            email_id = await self.room.send(**arguments)
            await self.room.until(email_id, "kept")
        return email_id

    def path(self, email_id: UUID) -> str:
        return f"/mails/{self.room.tenant.project_id}/{email_id}"

    @property
    def account(self) -> str:
        return f"/projects/{self.room.tenant.project_id}/email"


@pytest_asyncio.fixture
async def desk(services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator) -> AsyncIterator[Desk]:
    async with (
        resend() as provider,
        mailroom(services, tenant, owner, {"RESEND_API_URL": provider.url}) as room,
        browsing(room, authenticator) as web,
    ):
        await sign_in(web, owner, tenant.user_id)
        yield Desk(room, web, provider)


async def test_kept_mail_is_read_on_a_page_with_text_html_and_history(desk: Desk) -> None:
    email_id = await desk.kept(html=EVIL, bcc=["eve@example.org"], subject="Offer <b>1</b>")

    assert 'href="/mails"' in (await desk.web.get("/approvals")).text
    listed = await desk.web.get("/mails")
    assert "delivers no mail" in listed.text
    assert "Offer &lt;b&gt;1&lt;/b&gt;" in listed.text
    assert desk.path(email_id) in listed.text
    page = await desk.web.get(desk.path(email_id))
    assert "Ada &lt;ada@example.org&gt;" in page.text
    assert "eve@example.org" in page.text
    assert "A word." in page.text
    assert "<script" not in page.text
    assert f'<iframe class="mail" src="{desk.path(email_id)}/html"' in page.text
    assert 'sandbox loading="lazy"' in page.text
    assert "frame-src 'self'" in page.headers["content-security-policy"]


async def test_the_html_of_others_can_run_load_send_and_embed_nothing(desk: Desk) -> None:
    email_id = await desk.kept(html=EVIL)

    content = await desk.web.get(f"{desk.path(email_id)}/html")
    assert content.text == EVIL
    policy = content.headers["content-security-policy"]
    assert policy == FRAMED["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy
    assert (content.headers["x-frame-options"], content.headers["x-content-type-options"]) == ("SAMEORIGIN", "nosniff")


async def test_who_is_not_signed_in_or_not_of_the_project_reads_no_mail(
    desk: Desk, owner: Owner, stranger: Tenant
) -> None:
    email_id = await desk.kept(html="<p>secret words</p>", subject="secret words")
    paths = [desk.path(email_id), f"{desk.path(email_id)}/html"]

    await sign_in(desk.web, owner, stranger.user_id)
    for path in paths:
        answer = await desk.web.get(path)
        assert (answer.status_code, "secret words" in answer.text) == (404, False)
    assert "secret words" not in (await desk.web.get(f"/mails?project={desk.room.tenant.project_id}")).text
    desk.web.cookies.clear()
    for path in (*paths, "/mails", desk.account):
        answer = await desk.web.get(path)
        assert (answer.status_code, "secret words" in answer.text) == (401, False)


async def test_a_person_sends_what_was_kept_failed_or_is_unconfirmed_and_nothing_else(
    desk: Desk, house: House, owner: Owner
) -> None:
    email_id = await desk.kept()
    page = await desk.web.get(desk.path(email_id))
    assert "Send it now" in page.text
    token = csrf(page)
    assert (await desk.web.post(f"{desk.path(email_id)}/again", data={"csrf": "0" * 64})).status_code == 403

    sent = await desk.web.post(f"{desk.path(email_id)}/again", data={"csrf": token})
    assert sent.status_code == 200
    assert (await desk.room.row(email_id))["status"] == "queued"
    assert (await desk.web.post(f"{desk.path(email_id)}/again", data={"csrf": token})).status_code == 409
    async with desk.room.working():
        await desk.room.until(email_id, "kept")
    row = await desk.room.row(email_id)
    assert (row["attempts"], row["attempts_before"]) == (2, 1)
    await owner.execute("UPDATE emails SET status = 'unconfirmed'")
    assert "it may arrive twice" in (await desk.web.get(desk.path(email_id))).text
    viewer = await house.member(desk.room.tenant.project_id, "viewer")
    await sign_in(desk.web, owner, viewer.user_id)
    page = await desk.web.get(desk.path(email_id))
    assert "Send it" not in page.text
    token = csrf(page)
    assert (await desk.web.post(f"{desk.path(email_id)}/again", data={"csrf": token})).status_code == 403


async def test_a_person_reads_what_the_house_wrote_to_them_and_never_what_opens_something(
    desk: Desk, stranger: Tenant
) -> None:
    tenant = desk.room.tenant
    async with desk.room.database.system() as connection:
        assert await house_mails.queue_welcome(connection, tenant.user_id)
        assert await house_mails.queue_welcome(connection, stranger.user_id)
    listed = await desk.web.get("/mails")
    assert listed.text.count("Welcome to Innkeeper") == 1
    own = await desk.room.owner.fetchval("SELECT id FROM house_mails WHERE user_id = $1", tenant.user_id)
    foreign = await desk.room.owner.fetchval("SELECT id FROM house_mails WHERE user_id = $1", stranger.user_id)
    assert "Your account is ready" in (await desk.web.get(f"/mails/house/{own}")).text
    assert "prefers-color-scheme" in (await desk.web.get(f"/mails/house/{own}/html")).text
    assert (await desk.web.get(f"/mails/house/{foreign}")).status_code == 404


async def test_a_projects_own_account_is_checked_sealed_and_never_shown_again(desk: Desk) -> None:
    key = "re_a_key_of_the_project_alone_wxyz"
    desk.provider.keys.add(key)
    desk.provider.verified[key] = ["example.org"]
    page = await desk.web.get(desk.account)
    form = {"csrf": csrf(page), "sender": "The Desk <desk@example.org>", "key": key, "webhook_secret": SECRET}

    for change, said in (
        ({"key": "re_unknown"}, "Resend refused this key"),
        ({"key": ""}, "the field was empty"),
        ({"key": "two words"}, "This is no key"),
        ({"sender": "desk@pending.example"}, "Its verified domains: example.org"),
        ({"sender": "nobody"}, "The sender is no address"),
        ({"webhook_secret": "whsec_short"}, "This is no signing secret"),
    ):
        answer = await desk.web.post(desk.account, data={**form, **change})
        assert (answer.status_code, said in answer.text) == (422, True), change
        assert key not in answer.text
    desk.provider.answer(500)
    assert "could not be asked" in (await desk.web.post(desk.account, data=form)).text
    assert await desk.room.owner.fetchval("SELECT count(*) FROM email_secrets") == 0

    saved = await desk.web.post(desk.account, data=form)
    assert "ends in <code>wxyz</code>" in saved.text
    assert f"/webhooks/resend/{desk.room.tenant.project_id}" in saved.text
    assert key not in saved.text
    assert SECRET not in saved.text
    rows = await desk.room.owner.fetch("SELECT kind, sealed FROM email_secrets ORDER BY kind")
    assert [row["kind"] for row in rows] == ["api_key", "webhook_secret"]
    opened = desk.room.post.vault.open(desk.room.tenant.project_id, email_accounts.SEALED, rows[0]["sealed"], "api_key")
    assert opened == key

    async with desk.room.working():
        email_id = await desk.room.send()
        await desk.room.until(email_id, "sent")
    (mail,) = desk.provider.mails
    assert (mail["account"], mail["from"]) == (key, "The Desk <desk@example.org>")
    kept = await desk.web.post(desk.account, data={**form, "key": "", "webhook_secret": "", "sender": "b@example.org"})
    assert "<strong>b@example.org</strong>" in kept.text
    await desk.web.post(f"{desk.account}/delete", data={"csrf": csrf(kept)})
    assert await desk.room.owner.fetchval("SELECT count(*) FROM email_secrets") == 0


async def test_an_account_whose_key_may_only_send_is_taken_at_its_word(desk: Desk) -> None:
    desk.provider.answer(401, "restricted_api_key")
    form = {"csrf": csrf(await desk.web.get(desk.account)), "sender": "desk@example.org", "key": "re_sends_only"}
    assert "<strong>desk@example.org</strong>" in (await desk.web.post(desk.account, data=form)).text


async def test_who_does_not_administer_a_project_changes_no_account(desk: Desk, house: House, owner: Owner) -> None:
    member = await house.member(desk.room.tenant.project_id, "member")
    await sign_in(desk.web, owner, member.user_id)
    page = await desk.web.get(desk.account)
    assert "Ask an owner or admin" in page.text
    form = {"csrf": csrf(page), "sender": "desk@example.org", "key": "re_x"}
    assert (await desk.web.post(desk.account, data=form)).status_code == 403
    assert (await desk.web.post(f"{desk.account}/delete", data=form)).status_code == 403
