"""The pages of members, invitations and the audit log, in a house that sends no mail: links are shown and printed."""

from __future__ import annotations

import html
import re
from typing import Any
from uuid import UUID

import httpx2
import pytest

from db import accounts
from db.ids import uuid7
from tests.server.oauth.people import Inn, Person, hidden
from tests.server.site.sheets import send

pytestmark = [pytest.mark.promise("IDN-30"), pytest.mark.asyncio(loop_scope="module")]


def path_of(person: Person, name: str = "One") -> str:
    return f"/projects/{person.projects[name]}/members"


async def post(person: Person, path: str, page: httpx2.Response, **typed: Any) -> httpx2.Response:
    return await person.browser.post(path, data={"csrf": hidden(page)["csrf"], **typed})


async def role_of(inn: Inn, project_id: UUID, user_id: UUID) -> str | None:
    found: str | None = await inn.owner.fetchval(
        "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2", project_id, user_id
    )
    return found


async def address_of(inn: Inn, person: Person) -> str:
    return str(await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", person.user_id))


async def invited(inn: Inn, person: Person, address: str, role: str = "member") -> str:
    """The path of the link that the page shows its inviter once."""
    page = await person.browser.get(path_of(person))
    answer = await send(person, page, f"{path_of(person)}/invite", email=address, role=role)
    assert answer.status_code == 200, answer.text
    found = re.search(rf"{inn.url}(/invitations/ik_in_\w+)", answer.text)
    assert found, answer.text
    assert found[1] not in (await person.browser.get(path_of(person))).text, "it is shown once"
    return found[1]


async def joined(inn: Inn, person: Person, role: str) -> UUID:
    """Another account with a role in the first project."""
    user_id = await accounts.create_user(inn.owner, f"{uuid7().hex}@example.test", f"A {role}")
    await inn.owner.execute(
        "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)",
        *(user_id, person.projects["One"], role),
    )
    return user_id


async def test_somebody_is_invited_changed_and_removed_on_the_page(inn: Inn, person: Person) -> None:
    project_id = person.projects["One"]
    async with inn.person() as guest:
        link = await invited(inn, person, await address_of(inn, guest), "viewer")
        arrived = await guest.browser.get(link)
        assert (arrived.status_code, arrived.headers["location"]) == (303, "/invitations")
        (cookie,) = arrived.headers.get_list("set-cookie")
        assert {"HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
        page = await guest.browser.get("/invitations")
        assert "ik_in_" not in page.text
        answered = await send(guest, page, "/invitations", decision="accept")
        assert answered.headers["location"] == f"/projects/{project_id}/members"
        assert await role_of(inn, project_id, guest.user_id) == "viewer"
        theirs = await guest.browser.get(f"/projects/{project_id}/members")
        assert (theirs.status_code, "Invite somebody" in theirs.text) == (200, False)

        page = await person.browser.get(path_of(person))
        changed = await send(person, page, f"{path_of(person)}/{guest.user_id}/role", role="admin")
        assert changed.headers["location"].endswith("?said=changed")
        assert await role_of(inn, project_id, guest.user_id) == "admin"
        assert "Invite somebody" in (await guest.browser.get(path_of(person))).text

        up = await post(guest, f"{path_of(person)}/{guest.user_id}/role", theirs, role="owner")
        assert up.status_code == 403
        assert await role_of(inn, project_id, guest.user_id) == "admin"
        removed = await send(person, page, f"{path_of(person)}/{guest.user_id}/remove")
        assert removed.headers["location"].endswith("?said=removed")
        assert (await guest.browser.get(path_of(person))).status_code == 404


async def test_an_invitation_opens_for_its_address_alone(inn: Inn, person: Person) -> None:
    async with inn.person() as guest, inn.person() as other:
        link = await invited(inn, person, await address_of(inn, guest))
        await other.browser.get(link)
        page = await other.browser.get("/invitations")
        assert (page.status_code, "for somebody else" in page.text) == (403, True)
        assert await address_of(inn, guest) not in page.text, "nobody learns the address from a link"
        one = await inn.owner.fetchrow("SELECT project_id, id FROM invitations ORDER BY id DESC LIMIT 1")
        assert one is not None
        form = {"project": str(one["project_id"]), "invitation": str(one["id"]), "decision": "accept"}
        forced = await post(other, "/invitations", page, **form)
        assert forced.status_code == 404
        assert await role_of(inn, one["project_id"], other.user_id) is None

        # Without the link, signed in with the address: it waits there too.
        page = await guest.browser.get("/invitations")
        assert "One" in page.text
        assert (await post(guest, "/invitations", page, **{**form, "decision": "decline"})).status_code == 303
        assert await role_of(inn, one["project_id"], guest.user_id) is None
        await guest.browser.get(link)
        assert "not open any more" in (await guest.browser.get("/invitations")).text


async def test_who_has_no_account_signs_up_by_an_invitation_though_nobody_else_may(
    inn: Inn, person: Person, links: list[str | None]
) -> None:
    address = f"{uuid7().hex}@example.org"
    async with inn.browser() as browser:

        async def asked() -> str | None:
            page = await browser.get("/invitations")
            form = {**hidden(page), "email": address}
            assert (await browser.post("/sign-in", data=form)).status_code == 200
            return links[-1]

        await browser.get("/sign-in")
        assert await asked() is None, "sign-up is closed"
        link = await invited(inn, person, address, "admin")
        await browser.get(link)
        greeting = await browser.get("/invitations")
        assert "You are invited to One" in greeting.text
        assert address not in greeting.text
        told = await asked()
        assert told is not None
        opened = await browser.get(told)
        signed_in = await browser.post("/sign-in/mail", data=hidden(opened))
        assert signed_in.headers["location"] == "/invitations"
        page = await browser.get("/invitations")
        answered = await browser.post("/invitations", data={**hidden(page), "decision": "accept"})
        assert answered.headers["location"] == path_of(person)
        assert (await browser.get(path_of(person))).status_code == 200
    user_id = await inn.owner.fetchval("SELECT id FROM users WHERE email = $1", address)
    assert await role_of(inn, person.projects["One"], user_id) == "admin"
    assert await inn.owner.fetchval("SELECT count(*) FROM projects WHERE created_by = $1", user_id) == 1


async def test_a_sign_up_link_asked_for_by_an_invitation_ends_with_it(
    inn: Inn, person: Person, links: list[str | None]
) -> None:
    address = f"{uuid7().hex}@example.org"
    await invited(inn, person, address)
    async with inn.browser() as browser:
        page = await browser.get("/sign-in")
        await browser.post("/sign-in", data={**hidden(page), "email": address})
        told = links[-1]
        assert told is not None
        opened = await browser.get(told)
        page = await person.browser.get(path_of(person))
        one = await inn.owner.fetchval("SELECT id FROM invitations WHERE address = $1", address)
        assert (await send(person, page, f"{path_of(person)}/invitations/{one}/revoke")).status_code == 303
        assert (await browser.post("/sign-in/mail", data=hidden(opened))).status_code == 403
    assert not await inn.owner.fetchval("SELECT count(*) FROM users WHERE email = $1", address)


async def test_a_resent_invitation_has_another_link(inn: Inn, person: Person) -> None:
    first = await invited(inn, person, f"{uuid7().hex}@example.org")
    one = await inn.owner.fetchval("SELECT id FROM invitations ORDER BY id DESC LIMIT 1")
    page = await person.browser.get(path_of(person))
    again = await send(person, page, f"{path_of(person)}/invitations/{one}/resend")
    found = re.search(rf"{inn.url}(/invitations/ik_in_\w+)", again.text)
    assert found
    assert found[1] != first
    async with inn.browser() as browser:
        await browser.get(first)
        assert "You are invited" not in (await browser.get("/invitations")).text
        await browser.get(found[1])
        assert "You are invited" in (await browser.get("/invitations")).text


async def test_a_project_is_handed_over_by_who_types_its_name(inn: Inn, person: Person) -> None:
    project_id = person.projects["One"]
    heir = await joined(inn, person, "member")
    page = await person.browser.get(path_of(person))
    assert "You are the only owner" in page.text
    refused = await send(person, page, f"{path_of(person)}/transfer", member=str(heir), name="Two")
    assert (refused.status_code, 'aria-invalid="true"' in refused.text) == (422, True)
    assert await role_of(inn, project_id, heir) == "member"
    handed = await send(person, page, f"{path_of(person)}/transfer", member=str(heir), name=" One ")
    assert handed.status_code == 303
    assert await role_of(inn, project_id, heir) == "owner"
    assert await role_of(inn, project_id, person.user_id) == "admin"
    page = await person.browser.get(path_of(person))
    assert (await send(person, page, f"{path_of(person)}/leave")).status_code == 303
    assert (await person.browser.get(path_of(person))).status_code == 404


async def test_the_last_owner_is_told_why_they_stay(person: Person) -> None:
    page = await person.browser.get(path_of(person))
    me = person.user_id
    tries: list[tuple[str, dict[str, str]]] = [("leave", {}), (f"{me}/role", {"role": "viewer"}), (f"{me}/remove", {})]
    for path, typed in tries:
        refused = await post(person, f"{path_of(person)}/{path}", page, **typed)
        assert (refused.status_code, "last owner" in refused.text) == (409, True)


async def test_forms_of_strangers_and_of_other_sessions_change_nothing(inn: Inn, person: Person) -> None:
    page = await person.browser.get(path_of(person))
    async with inn.person() as other:
        for path in ("invite", "leave", "transfer"):
            foreign = await other.browser.post(f"{path_of(person)}/{path}", data={"csrf": hidden(page)["csrf"]})
            assert foreign.status_code == 403
        mine = await other.browser.get(path_of(other))
        for path in ("invite", "leave", "transfer"):
            sent = {"csrf": hidden(mine)["csrf"], "email": "x@example.org"}
            assert (await other.browser.post(f"{path_of(person)}/{path}", data=sent)).status_code == 404
        for page_of in ("members", "audit"):
            assert (await other.browser.get(f"/projects/{person.projects['One']}/{page_of}")).status_code == 404


async def test_the_audit_page_says_who_did_what_and_from_where(inn: Inn, person: Person) -> None:
    agent = 'Mozilla/5.0 (X11; "quoted" o\'clock) \\ Firefox/128.0'
    heir = await joined(inn, person, "viewer")
    page = await person.browser.get(path_of(person))
    await person.browser.post(
        f"{path_of(person)}/{heir}/role",
        data={"csrf": hidden(page)["csrf"], "role": "member"},
        headers={"user-agent": agent},
    )
    path = f"/projects/{person.projects['One']}/audit"
    shown = html.unescape((await person.browser.get(path)).text)
    assert all(said in shown for said in ("member:role", "member (was viewer)", "Somebody", "127.0.0.1", "pages"))
    assert "Mozilla/5.0 (X11; quoted oclock)  Firefox/128.0" in shown
    filtered = (await person.browser.get(path, params={"act": "member:added"})).text
    assert ("member:added</strong>" in filtered, "member:role</strong>" in filtered) == (True, False)
    none = (await person.browser.get(path, params={"by": str(heir)})).text
    assert "Nothing matches." in none
    own = (await person.browser.get("/account/audit")).text
    assert ("session:opened" in own, "member:role" in own) == (True, True)
    for role in ("member", "viewer"):
        async with inn.person() as other:
            await inn.owner.execute(
                "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)",
                *(other.user_id, person.projects["One"], role),
            )
            assert (await other.browser.get(path)).status_code == 403


async def test_the_audit_pages_lead_through_all_acts_without_losing_or_repeating_one(inn: Inn, person: Person) -> None:
    project_id = person.projects["Two"]
    await inn.owner.executemany(
        "INSERT INTO audit (id, credential_id, user_id, project_id, action, target)"
        " VALUES ($1, $2, $3, $4, 'many', $5)",
        [(uuid7(), uuid7(), person.user_id, project_id, f"target-{number}") for number in range(120)],
    )
    path, found = f"/projects/{project_id}/audit?act=many", []
    for _ in range(3):
        page = (await person.browser.get(path)).text
        found += re.findall(r"target-\d+", page)
        older = re.search(r'<a href="([^"]+)" rel="next"', page)
        path = html.unescape(older[1]) if older else ""
    assert path == ""
    assert found == [f"target-{number}" for number in reversed(range(120))]
