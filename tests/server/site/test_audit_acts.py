"""Each security-relevant act of people and programs over HTTP is in the log: who, what, and from where."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from db import accounts, users
from db.oauth import clients
from db.tokens import token_hash
from server.limits.newcomers import SIGN_INS_FROM_HERE
from tests.server.oauth.people import Inn, Person, call, hidden
from tests.server.site.sheets import send

pytestmark = [pytest.mark.promise("IDN-30"), pytest.mark.asyncio(loop_scope="module")]
AGENT = "A browser of this test/1.0"


async def log_of(inn: Inn, user_id: UUID) -> list[dict[str, Any]]:
    rows = await inn.owner.fetch("SELECT * FROM audit WHERE user_id = $1 ORDER BY id", user_id)
    return [dict(row.items()) for row in rows]


async def last(inn: Inn, user_id: UUID, action: str) -> dict[str, Any]:
    found = [row for row in await log_of(inn, user_id) if row["action"] == action]
    assert found, (action, [row["action"] for row in await log_of(inn, user_id)])
    return found[-1]


def came(row: dict[str, Any], client: str = "pages") -> None:
    assert (row["address"], row["user_agent"], row["client"]) == ("127.0.0.1", AGENT, client), row


async def test_what_a_person_does_on_the_pages(inn: Inn, person: Person) -> None:
    person.browser.headers["user-agent"] = AGENT
    project_id, me = person.projects["One"], person.user_id
    await person.sign_in()
    came(await last(inn, me, "session:opened"))

    settings = f"/projects/{project_id}/settings"
    page = await person.browser.get(settings)
    confirm = await send(person, page, registry_public="yes", approvals="never")
    if confirm.status_code == 200:  # the page asks once more about what loosens
        confirm = await send(person, confirm, settings)
    assert confirm.status_code == 303, confirm.text
    for action, detail in (("project:approvals", "never (was always)"), ("project:registry", "public")):
        row = await last(inn, me, action)
        came(row)
        assert (row["project_id"], row["detail"]) == (project_id, detail)
    came(await last(inn, me, "allow:update_project"))
    came(await last(inn, me, "update_project"))

    await person.browser.post(f"/projects/{person.projects['Two']}/delete")
    page = await person.browser.get(f"/projects/{person.projects['Two']}/delete")
    assert (await send(person, page, name="Two")).status_code == 303
    row = await last(inn, me, "delete_project")
    came(row)
    assert row["target"] == str(person.projects["Two"])

    async with AsyncExitStack() as stack:
        program = await inn.program(client_name="A program of this test")
        token = (await program.tokens(person))["access_token"]
        came(await last(inn, me, "allow:update_project"))
        assert (await last(inn, me, "oauth:granted"))["client"] == "A program of this test"
        assert (await last(inn, me, "oauth:granted"))["address"] == "127.0.0.1"
        assert (await call(inn, token, "create_project", name="By a program")).status_code == 200
        row = await last(inn, me, "create_project")
        assert (row["client"], row["address"]) == ("A program of this test", "127.0.0.1")
        apps = await person.browser.get("/apps")
        app_id = await inn.owner.fetchval("SELECT client_id FROM credentials WHERE user_id = $1 AND kind = 'oauth'", me)
        assert (await send(person, apps, f"/apps/{app_id}/disconnect")).status_code == 303
        row = await last(inn, me, "oauth:disconnected")
        assert (row["address"], row["user_agent"]) == ("127.0.0.1", AGENT)
        await stack.aclose()

    page = await person.browser.get("/sessions")
    assert (await send(person, page, "/sign-out")).status_code == 303
    came(await last(inn, me, "session:closed"))


async def test_a_replayed_refresh_and_a_revoked_grant_say_from_where(inn: Inn, person: Person) -> None:
    program = await inn.program()
    first = (await program.tokens(person))["refresh_token"]
    second = (await program.refresh(first)).json()["refresh_token"]
    await program.refresh(second)
    grant = await inn.owner.fetchval(
        "SELECT credential_id FROM oauth_refresh_tokens WHERE token_hash = $1", token_hash(first)
    )
    await inn.owner.execute(
        "UPDATE oauth_refresh_tokens SET used_at = used_at - interval '1 hour' WHERE credential_id = $1", grant
    )
    assert (await program.refresh(first)).status_code == 400
    row = await last(inn, person.user_id, "oauth:refresh_replayed")
    assert (row["address"], row["credential_id"]) == ("127.0.0.1", grant)
    assert row["user_agent"].startswith("python-httpx")

    third = (await program.tokens(person))["refresh_token"]
    await program.post("/oauth/revoke", token=third)
    assert (await last(inn, person.user_id, "oauth:revoked"))["address"] == "127.0.0.1"


async def test_too_many_tries_to_sign_in_are_told_to_whose_account_it_is_once_an_hour(inn: Inn, person: Person) -> None:
    address = await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", person.user_id)
    async with inn.browser() as stranger:
        stranger.headers["user-agent"] = AGENT
        statuses = set()
        for _ in range(10 * int(SIGN_INS_FROM_HERE.burst) + 10):
            page = await stranger.get("/sign-in")
            answer = await stranger.post("/sign-in", data={**hidden(page), "email": address})
            statuses.add(answer.status_code)
            if answer.status_code == 429 and len(statuses) > 2:
                break
    assert 429 in statuses
    limited = [row for row in await log_of(inn, person.user_id) if row["action"] == "sign_in:limited"]
    assert len(limited) == 1
    assert (limited[0]["address"], limited[0]["user_agent"]) == ("127.0.0.1", AGENT)
    assert "Somebody who was not signed in" in (await person.browser.get("/account/audit")).text


async def test_what_the_operator_does_is_there_for_whom_it_concerns(inn: Inn, person: Person) -> None:
    owner, me = inn.owner, person.user_id
    key, _token = await accounts.create_key(owner, me, project_id=person.projects["One"], name="a key")
    await accounts.revoke_key(owner, str(key))
    await users.set_admin(owner, me, admin=True)
    await users.set_admin(owner, me, admin=False)
    client_id, _secret = await clients.create_service(owner, "A service", person.projects["One"], ["projects:read"])
    await clients.delete(owner, client_id)
    acts = {row["action"]: row for row in await log_of(inn, me)}
    for action in ("link:created", "key:created", "key:revoked", "admin:granted", "admin:revoked"):
        assert (acts[action]["credential_id"], acts[action]["client"]) == (UUID(int=0), "command line"), action
    assert acts["key:created"]["target"] == str(key)
    page = (await person.browser.get(f"/projects/{person.projects['One']}/audit")).text
    for action in ("key:created", "key:revoked", "client:created", "client:deleted", "member:added"):
        assert f"{action}</strong>" in page, action
    assert "The operator" in page
    none = await person.browser.get(f"/projects/{person.projects['One']}/audit", params={"by": str(me)})
    assert "key:created</strong>" not in none.text, "it was not them"
