"""An invitation goes by mail, in the transaction that makes it, and its link leads a newcomer into the project."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from db.credentials import Authenticator
from server.mail.invitations import InvitationMail
from server.settings.sign_in import SignInSettings
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.resend_server import KEY, ResendServer, resend
from tests.server.approving import sign_in
from tests.server.posting import Mailroom, browsing, mailroom
from tests.server.test_sign_in import ask, fields, follow
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services

pytestmark = pytest.mark.promise("IDN-30", "EML-04", "IDN-02")
EVERYTHING = Narrowing(families=CATALOG.families)
GUEST = "New.Guest@example.org"


def environ(provider: ResendServer) -> dict[str, str]:
    sender = {"EMAIL_FROM_DEFAULT": "Inn <inn@example.com>"}
    return {"RESEND_API_KEY": KEY, "RESEND_API_URL": provider.url, **sender}


async def mail_to(provider: ResendServer, address: str, number: int = 1) -> dict[str, Any]:
    """The last of the mails to somebody, once there are so many."""

    def found() -> list[dict[str, Any]]:
        return [mail for mail in provider.mails if address.lower() in str(mail["to"])]

    async def arrived() -> bool:
        return len(found()) >= number

    await eventually(arrived)
    return found()[-1]


def path_in(mail: dict[str, Any]) -> str:
    found = re.search(r"https://inn\.example\.test(/invitations/ik_in_\w+)", mail["text"])
    assert found, mail["text"]
    assert found[1] in mail["html"]
    return found[1]


async def invite(room: Mailroom, dispatch: Dispatch, **given: str) -> dict[str, Any]:
    arguments = {"project_id": str(room.tenant.project_id), **given}
    return (await dispatch.call(room.tenant.principal, "invite_member", arguments, narrowing=EVERYTHING)).structured


async def joined(browser: httpx2.AsyncClient, link: str, asked: httpx2.Response, mail: dict[str, Any]) -> str:
    """Follow the link to sign in with, and accept."""
    assert asked.status_code == 200, asked.text
    found = re.search(r"https?://\S+(/sign-in/mail\?token=\w+)", mail["text"])
    assert found
    arrived = await follow(browser, found[1])
    assert arrived.url.path == "/invitations", link
    accepted = await browser.post("/invitations", data={**fields(arrived), "decision": "accept"})
    return accepted.url.path


@pytest.mark.usefixtures("unasked")
async def test_who_is_invited_by_mail_signs_up_and_joins(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> None:
    await owner.execute("UPDATE projects SET name = 'The <Engine> & more' WHERE id = $1", tenant.project_id)
    async with resend() as provider, mailroom(services, tenant, owner, environ(provider)) as room:
        dispatch = Dispatch(replace(services, mail=room.post.rules, invitations=InvitationMail(room.post)))
        sent = await invite(room, dispatch, email=GUEST, role="member")
        assert (sent["mailed"], sent.get("note")) == (True, None)
        assert "ik_in_" not in str(sent)
        async with browsing(room, authenticator, sign_in=SignInSettings()) as me, room.working():
            mail = await mail_to(provider, GUEST)
            assert mail["subject"] == "tenant invites you to The <Engine> & more"
            assert "The &lt;Engine&gt; &amp; more" in mail["html"]
            assert "The <Engine>" not in mail["html"]
            link = path_in(mail)
            greeting = await me.get(link)
            assert (greeting.status_code, greeting.url.path) == (200, "/invitations")
            asked = await ask(me, GUEST, "/invitations")
            path = await joined(me, link, asked, await mail_to(provider, GUEST, 2))
        assert path == f"/projects/{tenant.project_id}/members"
        role = await owner.fetchval(
            "SELECT m.role FROM project_members m JOIN users u ON u.id = m.user_id"
            " WHERE m.project_id = $1 AND u.email = $2",
            *(tenant.project_id, GUEST.lower()),
        )
        assert role == "member"
        kept = await owner.fetchval("SELECT secret FROM house_mails WHERE kind = 'invitation'")
        assert kept is None, "what opens something is forgotten when its mail has left"


@pytest.mark.usefixtures("unasked")
async def test_the_page_mails_the_link_and_shows_it_to_nobody(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> None:
    async with (
        resend() as provider,
        mailroom(services, tenant, owner, environ(provider)) as room,
        browsing(room, authenticator) as me,
        room.working(),
    ):
        await sign_in(me, owner, tenant.user_id)
        path = f"/projects/{tenant.project_id}/members"
        form = {"csrf": fields(await me.get(path))["csrf"], "email": GUEST, "role": "viewer"}
        said = await me.post(f"{path}/invite", data=form)
        assert (said.status_code, "on its way" in said.text, "ik_in_" in said.text) == (200, True, False)
        first = path_in(await mail_to(provider, GUEST))
        one = await owner.fetchval("SELECT id FROM invitations")
        await me.post(f"{path}/invitations/{one}/resend", data=form)
        second = path_in(await mail_to(provider, GUEST, 2))
        assert first != second
        wrong = await me.post(f"{path}/invite", data={**form, "email": "nobody"})
        assert (wrong.status_code, 'aria-invalid="true"' in wrong.text) == (422, True)


@pytest.mark.usefixtures("unasked")
async def test_an_invitation_that_is_not_made_is_not_mailed(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> None:
    """Both are one transaction: a mail without its invitation would lead nowhere."""
    async with mailroom(services, tenant, owner, {"RESEND_API_KEY": KEY}) as room:
        dispatch = Dispatch(replace(services, mail=room.post.rules, invitations=InvitationMail(room.post)))
        await owner.execute("ALTER TABLE audit ADD CONSTRAINT none CHECK (action <> 'invite_member')")
        with pytest.raises(Exception, match="none"):
            await invite(room, dispatch, email=GUEST)
    for table in ("invitations", "house_mails WHERE kind = 'invitation'"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0, table


@pytest.mark.usefixtures("unasked")
async def test_an_invitation_opens_no_domain_that_the_operator_has_closed(
    services: Services, tenant: Tenant, owner: Owner, authenticator: Authenticator
) -> None:
    said: list[str | None] = []
    cases = (
        (SignInSettings(), True),
        (SignInSettings(sign_up="open"), True),
        (SignInSettings(blocked_domains=("example.org",)), False),
        (SignInSettings(sign_up="domains", allowed_domains=("example.com",)), False),
        (SignInSettings(sign_up="domains", allowed_domains=("example.org",)), True),
    )
    async with mailroom(services, tenant, owner) as room:
        await invite(room, Dispatch(services), email=GUEST)
        for policy, let_in in cases:
            async with browsing(
                room, authenticator, sign_in=policy, say_link=lambda _address, link: said.append(link)
            ) as me:
                await ask(me, GUEST)
            assert (said[-1] is not None) == let_in, policy
