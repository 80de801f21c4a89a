"""``innkeeper users`` and ``admin``: what ends with an account, and what stays, on a server that runs meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from db import accounts, sessions
from db.ids import uuid7
from tests.conftest import eventually
from tests.server.command import Ended, run
from tests.server.oauth.people import Inn, Person, call

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-03")]


async def innkeeper(inn: Inn, tmp_path: Path, *arguments: str) -> Ended:
    return await run(*arguments, "--json", cwd=tmp_path, environ=environ_of(inn))


def environ_of(inn: Inn) -> Mapping[str, str]:
    return {"DATABASE_OWNER_URL": inn.owner_url}


async def email_of(inn: Inn, person: Person) -> str:
    return str(await inn.owner.fetchval("SELECT email FROM users WHERE id = $1", person.user_id))


async def test_a_disabled_account_has_no_session_grant_or_token_any_more_and_gets_none_back(
    inn: Inn, person: Person, stranger: Person, tmp_path: Path
) -> None:
    email = await email_of(inn, person)
    program = await inn.program()
    tokens = await program.tokens(person)
    theirs = (await program.tokens(stranger))["access_token"]
    unredeemed = await program.code(person)
    _, key = await accounts.create_key(inn.owner, person.user_id)
    link = await sessions.create_link(inn.owner, person.user_id)
    bearers = (tokens["access_token"], key)
    assert [(await call(inn, one, "list_projects")).status_code for one in bearers] == [200, 200]

    ended = await innkeeper(inn, tmp_path, "users", "disable", email)
    assert ended.code == 0, ended.err

    async def refused() -> bool:
        return [(await call(inn, one, "list_projects")).status_code for one in bearers] == [401, 401]

    async def nothing_opens() -> None:
        await eventually(refused)
        assert (await program.refresh(tokens["refresh_token"])).status_code == 400
        assert (await program.exchange(unredeemed)).status_code == 400
        assert (await person.browser.get("/sessions")).status_code == 401
        opened = await person.browser.post("/sign-in/link", data={"link": link, "to": "/approvals"})
        assert opened.status_code == 403

    await nothing_opens()
    assert (await call(inn, theirs, "list_projects")).status_code == 200
    assert (await innkeeper(inn, tmp_path, "users", "enable", email)).code == 0
    await nothing_opens()
    await person.sign_in()
    assert (await person.browser.get("/sessions")).status_code == 200


async def test_a_deleted_account_takes_along_only_what_is_its_alone(
    inn: Inn, person: Person, stranger: Person, tmp_path: Path
) -> None:
    email = await email_of(inn, person)
    _, key = await accounts.create_key(inn.owner, person.user_id)
    await inn.owner.execute(
        "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'member')",
        *(stranger.user_id, person.projects["Two"]),
    )
    kept = await innkeeper(inn, tmp_path, "users", "delete", email)
    assert (kept.code, "--with-projects" in kept.err, "One" in kept.err) == (2, True, True)
    assert (await call(inn, key, "list_projects")).status_code == 200

    gone = await innkeeper(inn, tmp_path, "users", "delete", email, "--with-projects")
    assert gone.code == 0, gone.err
    assert json.loads(gone.out)["projects"] == ["One"]

    async def refused() -> bool:
        return (await call(inn, key, "list_projects")).status_code == 401

    await eventually(refused)
    assert (await person.browser.get("/sessions")).status_code == 401
    left = await inn.owner.fetchrow(
        "SELECT p.created_by, m.role FROM projects p JOIN project_members m ON m.project_id = p.id WHERE p.id = $1",
        person.projects["Two"],
    )
    assert left is not None
    assert (left["created_by"], left["role"]) == (stranger.user_id, "owner")
    assert not await inn.owner.fetchval("SELECT count(*) FROM projects WHERE id = $1", person.projects["One"])
    assert (await innkeeper(inn, tmp_path, "users", "delete", email)).code == 2


async def test_an_operator_adds_an_account_names_it_administrator_and_sees_both(inn: Inn, tmp_path: Path) -> None:
    email = f"{uuid7().hex}@example.org"
    added = await innkeeper(inn, tmp_path, "users", "add", f"Grace <{email.upper()}>")
    assert added.code == 0, added.err
    user_id = json.loads(added.out)["user_id"]
    assert (await innkeeper(inn, tmp_path, "users", "add", email)).code == 2
    assert (await innkeeper(inn, tmp_path, "users", "add", "nobody")).code == 2
    assert (await innkeeper(inn, tmp_path, "admin", "grant", email)).code == 0

    async def shown() -> dict[str, Any]:
        listed = json.loads((await innkeeper(inn, tmp_path, "users", "list")).out)
        return next(one for one in listed if one["id"] == user_id)

    found = await shown()
    assert (found["email"], found["name"], found["projects"], found["disabled_at"]) == (email, "Grace", 1, None)
    assert found["admin_at"] is not None
    welcomed = "SELECT count(*) FROM house_mails WHERE kind = 'welcome' AND user_id = $1::text::uuid"
    assert await inn.owner.fetchval(welcomed, user_id) == 1
    assert (await innkeeper(inn, tmp_path, "admin", "revoke", email)).code == 0
    assert (await shown())["admin_at"] is None
    assert (await innkeeper(inn, tmp_path, "admin", "grant", str(uuid7()))).code == 2
