"""The pages of a project's keys over HTTP: made and shown once, good for what was chosen, and ended at once."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from db.scopes import ALL_SCOPES
from tests.server.oauth.people import Inn, Person, call
from tests.server.site.sheets import send, sheet

pytestmark = [pytest.mark.promise("IDN-31"), pytest.mark.asyncio(loop_scope="module")]


async def asking(person: Person, kind: str = "secret") -> httpx2.Response:
    return await person.browser.get(f"/projects/{person.projects['One']}/keys/new", params={"kind": kind})


def token_of(page: httpx2.Response) -> str:
    found = re.search(r"ik_[a-z]k_[0-9A-Za-z]{49}", page.text)
    assert found, page.text
    return found[0]


async def row_of(inn: Inn, token: str) -> dict[str, Any]:
    row = await inn.owner.fetchrow("SELECT * FROM credentials WHERE token_hash = sha256($1::bytea)", token.encode())
    assert row is not None
    return dict(row.items())


async def test_a_secret_key_is_shown_once_and_may_do_what_was_chosen_in_its_project(inn: Inn, person: Person) -> None:
    page = await asking(person)
    assert set(sheet(page)["scope"]) == ALL_SCOPES
    assert "Upload and delete files" in page.text
    typed: dict[str, Any] = {"name": "The night watch", "scope": ["projects:read", "projects:write"], "days": "30"}
    made = await send(person, page, **typed)
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    token = token_of(made)

    listed = await call(inn, token, "list_projects")
    assert ("Two" in listed.text, "One" in listed.text) == (False, True)
    other = await call(inn, token, "get_project", project_id=str(person.projects["Two"]))
    assert "project_not_found" in other.text
    assert (await call(inn, token, "list_files", project_id=str(person.projects["One"]))).status_code == 403
    row = await row_of(inn, token)
    assert (row["scopes"], row["read_only"], row["project_id"]) == (
        ["projects:read", "projects:write"],
        False,
        person.projects["One"],
    )
    assert 29 < (row["expires_at"] - row["created_at"]).total_seconds() / 86400 < 31
    noted = "SELECT count(*) FROM audit WHERE action = 'key:created' AND target = $1"
    assert await inn.owner.fetchval(noted, str(row["id"])) == 1

    again = await send(person, page, **typed)
    assert (again.status_code, token in again.text, "shown once" in again.text) == (409, False, True)
    listed_page = await person.browser.get(f"/projects/{person.projects['One']}/keys")
    assert ("The night watch" in listed_page.text, token in listed_page.text) == (True, False)


async def test_a_revoked_key_is_refused_at_once(inn: Inn, person: Person) -> None:
    path = f"/projects/{person.projects['One']}/keys"
    token = token_of(await send(person, await asking(person), name="short-lived"))
    assert (await call(inn, token, "list_projects")).status_code == 200
    page = await person.browser.get(path)
    action = f"{path}/{(await row_of(inn, token))['id']}/revoke"
    ended = await send(person, page, action)
    assert (ended.status_code, ended.headers["location"]) == (303, path)
    assert (await call(inn, token, "list_projects")).status_code == 401
    assert "short-lived" not in (await person.browser.get(path)).text
    assert (await send(person, page, action)).status_code == 404


async def test_a_key_that_looks_changes_nothing(inn: Inn, person: Person) -> None:
    token = token_of(await send(person, await asking(person), name="looks", read_only="yes", days=""))
    assert (await row_of(inn, token))["expires_at"] is None
    refused = await call(inn, token, "update_project", project_id=str(person.projects["One"]), name="x")
    assert "read_only" in refused.text


async def test_a_publishable_key_lists_the_origins_of_its_pages(inn: Inn, person: Person) -> None:
    page = await asking(person, "publishable")
    wrong = await send(person, page, name="shop", origins="https://shop.example.com/path")
    assert (wrong.status_code, 'href="#origins"' in wrong.text) == (422, True)
    made = await send(person, page, name="shop", origins="https://Shop.example.com\r\nhttp://localhost:3000 ")
    token = token_of(made)
    assert token.startswith("ik_pk_")
    row = await row_of(inn, token)
    assert (row["kind"], row["origins"]) == ("publishable", ["https://shop.example.com", "http://localhost:3000"])
    listed = await person.browser.get(f"/projects/{person.projects['One']}/keys")
    assert "On pages of https://shop.example.com, http://localhost:3000." in listed.text


async def test_a_registry_key_is_one(inn: Inn, person: Person) -> None:
    token = token_of(await send(person, await asking(person, "feed"), name="installer"))
    assert (await row_of(inn, token))["kind"] == "feed"
    assert (await call(inn, token, "list_projects")).status_code == 401


@pytest.mark.parametrize(
    ("field", "typed"),
    [("name", ""), ("name", "x" * 101), ("name", "a\x07b"), ("scope", []), ("scope", ["root"]), ("days", "1000")],
)
async def test_what_makes_no_key_is_said_where_it_is(inn: Inn, person: Person, field: str, typed: Any) -> None:
    refused = await send(person, await asking(person), **{"name": "x", field: typed})
    assert refused.status_code == 422
    assert f'<a href="#{field}">' in refused.text
    assert (
        await inn.owner.fetchval(
            "SELECT count(*) FROM credentials WHERE kind = 'secret' AND user_id = $1", person.user_id
        )
        == 0
    )


@pytest.mark.parametrize(("role", "makes"), [("admin", 200), ("member", 200), ("viewer", 403)])
async def test_members_make_keys_of_their_own_rights_and_see_their_own(
    inn: Inn, person: Person, role: str, makes: int
) -> None:
    async with inn.person() as boss:
        project = boss.projects["One"]
        await inn.owner.execute(
            "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, $3)",
            *(project, person.user_id, role),
        )
        theirs = token_of(await send(boss, await asking(boss), name="of the owner"))
        page = await person.browser.get(f"/projects/{project}/keys")
        assert ("of the owner" in page.text) is (role == "admin")
        assert ("lets you make no keys" in page.text) is (role == "viewer")
        asked = await person.browser.get(f"/projects/{project}/keys/new")
        assert asked.status_code == makes
        publishable = await person.browser.get(f"/projects/{project}/keys/new?kind=publishable")
        assert publishable.status_code == (200 if role == "admin" else 403)
        csrf = sheet(page, "/sign-out")["csrf"]
        forged = {"csrf": csrf, "name": "x", "kind": "publishable", "days": ""}
        answer = await person.browser.post(f"/projects/{project}/keys/new", data=forged)
        assert answer.status_code == (200 if role == "admin" else 403)
        key_id = (await row_of(inn, theirs))["id"]
        ended = await person.browser.post(f"/projects/{project}/keys/{key_id}/revoke", data={"csrf": csrf})
        assert ended.status_code == (303 if role == "admin" else 404)
