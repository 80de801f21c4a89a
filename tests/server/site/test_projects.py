"""The pages of projects over HTTP: made, changed with the person's consent where a tool would ask, and deleted."""

from __future__ import annotations

import html
from typing import Any

import pytest

from db.ids import uuid7
from server.connect import links
from tests.server.oauth.people import Inn, Person
from tests.server.site.sheets import send, sheet

pytestmark = [pytest.mark.promise("IDN-31"), pytest.mark.asyncio(loop_scope="module")]


async def of(inn: Inn, project: object) -> dict[str, Any]:
    row = await inn.owner.fetchrow("SELECT * FROM projects WHERE id = $1", project)
    assert row is not None
    return dict(row.items())


async def acts(inn: Inn, person: Person) -> list[str]:
    written = "SELECT action FROM audit WHERE user_id = $1 AND action ~ '_project$' ORDER BY id"
    rows = await inn.owner.fetch(written, person.user_id)
    return [row["action"] for row in rows]


async def test_a_project_is_made_once_however_often_the_button_is_pressed(inn: Inn, person: Person) -> None:
    page = await person.browser.get("/projects/new")
    made = [await send(person, page, name="  A new one ") for _ in range(2)]
    assert [one.status_code for one in made] == [303, 303]
    assert made[0].headers["location"] == made[1].headers["location"]
    another = await send(person, page, name="Another")
    assert another.headers["location"] != made[0].headers["location"]

    shown = await person.browser.get(made[0].headers["location"])
    assert shown.status_code == 200
    assert "<h1>A new one</h1>" in shown.text
    listed = await person.browser.get("/projects")
    assert all(name in listed.text for name in ("A new one", "Another", "One", "Two"))
    assert (await acts(inn, person)).count("create_project") == 2


@pytest.mark.promise("IDN-40")
async def test_a_projects_page_puts_it_into_clients(inn: Inn, person: Person) -> None:
    project = person.projects["One"]
    page = html.unescape((await person.browser.get(f"/projects/{project}")).text)
    endpoint = f"{inn.resource}?project={project}"
    for way in links.installs(endpoint, "innkeeper-one"):
        assert (f'href="{way.href}">Add to {way.client}<' if way.href else f">{way.command}</pre>") in page
    assert f">innkeeper connect --url {inn.url} --project {project} --name innkeeper-one</pre>" in page


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
async def test_a_name_that_is_none_is_said_at_its_field(person: Person, name: str) -> None:
    page = await person.browser.get("/projects/new")
    refused = await send(person, page, name=name)
    assert refused.status_code == 422
    assert 'href="#name"' in refused.text
    assert 'aria-invalid="true" aria-describedby="name-fault name-hint"' in refused.text


async def test_settings_are_shown_changed_and_cleared(inn: Inn, person: Person) -> None:
    project = person.projects["One"]
    path = f"/projects/{project}/settings"
    typed = {
        "name": "One & <only>",
        "instructions": "  Two\r\nlines ",
        "model": "openai:gpt-5.2",
        "base_url": "https://models.example.org/v1/",
        "max_input_tokens": "5000",
        "tool_call_limit": "7",
        "registry_namespace": "mine",
        "allow_prompt_override": "yes",
    }
    saved = await send(person, await person.browser.get(path), **typed)
    assert saved.headers["location"] == f"{path}?saved"
    row = await of(inn, project)
    assert {name: row[name] for name in typed} == {
        **typed,
        "instructions": "  Two\nlines ",
        "base_url": "https://models.example.org/v1",
        "max_input_tokens": 5000,
        "tool_call_limit": 7,
        "allow_prompt_override": True,
    }
    page = await person.browser.get(saved.headers["location"])
    assert "The settings are saved" in page.text
    assert sheet(page)["instructions"] == ["  Two\nlines "]
    cleared = await send(person, page, model="", base_url="", max_input_tokens="", allow_prompt_override=None)
    assert cleared.status_code == 303
    row = await of(inn, project)
    assert (row["model"], row["base_url"], row["max_input_tokens"]) == (None, None, None)
    assert (row["name"], row["allow_prompt_override"]) == ("One & <only>", False)
    await send(person, await person.browser.get(path))
    assert (await of(inn, project))["updated_at"] == row["updated_at"]


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("name", ""),
        ("base_url", "ftp://models.example.org"),
        ("base_url", "http://169.254.169.254/v1"),
        ("max_input_tokens", "many"),
        ("tool_call_limit", "-1"),
        ("retention_days", "0"),
        ("retention_days", "1" * 40),
        ("registry_namespace", "Not One"),
        ("instructions", "x" * 20_001),
        ("instructions", "a\x00b"),
        ("approvals", "sometimes"),
    ],
)
async def test_what_cannot_be_a_setting_is_said_where_it_is_and_kept_to_mend(
    inn: Inn, person: Person, field: str, typed: str
) -> None:
    project = person.projects["One"]
    before = await of(inn, project)
    refused = await send(person, await person.browser.get(f"/projects/{project}/settings"), **{field: typed})
    assert refused.status_code == 422
    assert f'<a href="#{field}">' in refused.text
    assert f'id="{field}-fault"' in refused.text
    if field != "approvals" and "\x00" not in typed:
        assert sheet(refused)[field] == [typed]
    assert await of(inn, project) == before


async def test_twenty_thousand_characters_of_any_script_fit_the_form(inn: Inn, person: Person) -> None:
    project = person.projects["One"]
    page = await person.browser.get(f"/projects/{project}/settings")
    assert (await send(person, page, instructions="𝄞" * 20_000)).status_code == 303
    assert (await of(inn, project))["instructions"] == "𝄞" * 20_000


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"approvals": "never"}, "without asking anybody"),
        ({"registry_public": "yes"}, "anybody may read and install"),
        ({"retention_days": "30"}, "30 days are deleted"),
    ],
)
async def test_what_a_tool_would_ask_a_person_for_is_done_when_the_person_says_so_again(
    inn: Inn, person: Person, changed: dict[str, str], warned: str
) -> None:
    project = person.projects["One"]
    before = await of(inn, project)
    asked = await send(person, await person.browser.get(f"/projects/{project}/settings"), name="Renamed", **changed)
    assert (asked.status_code, warned in asked.text) == (200, True)
    assert await of(inn, project) == before

    assert "Nothing waits" in (await person.browser.get("/approvals")).text
    other = {**changed, "name": "Another question"}
    assert (await send(person, asked, **other)).status_code == 200
    assert await of(inn, project) == before

    done = await send(person, asked)
    assert done.status_code == 303
    after = await of(inn, project)
    assert after["name"] == "Renamed"
    assert await acts(inn, person) == ["allow:update_project", "update_project"]
    assert await inn.owner.fetchval("SELECT decided_through FROM approvals WHERE project_id = $1", project) == "page"


async def test_a_form_that_somebody_else_overtook_changes_nothing(inn: Inn, person: Person) -> None:
    project = person.projects["One"]
    page = await person.browser.get(f"/projects/{project}/settings")
    await send(person, page, name="Theirs")
    late = await send(person, page, model="openai:mine")
    assert (late.status_code, "Somebody else has changed" in late.text) == (422, True)
    assert sheet(late)["model"] == ["openai:mine"]
    assert (await of(inn, project))["model"] is None
    assert (await send(person, late)).status_code == 303
    assert ((await of(inn, project))["name"], (await of(inn, project))["model"]) == ("One", "openai:mine")


async def test_a_project_is_deleted_by_who_types_its_name(inn: Inn, person: Person) -> None:
    project = person.projects["One"]
    page = await person.browser.get(f"/projects/{project}/delete")
    for wrong in ("", "one", "One!"):
        refused = await send(person, page, name=wrong)
        assert (refused.status_code, 'href="#name"' in refused.text) == (422, True)
    assert await inn.owner.fetchval("SELECT count(*) FROM projects WHERE id = $1", project) == 1
    gone = await send(person, page, name=" One ")
    assert (gone.status_code, gone.headers["location"]) == (303, "/projects")
    assert await inn.owner.fetchval("SELECT count(*) FROM projects WHERE id = $1", project) == 0
    assert await acts(inn, person) == ["allow:delete_project", "delete_project"]
    for path in ("", "/settings", "/delete"):
        assert (await person.browser.get(f"/projects/{project}{path}")).status_code == 404


@pytest.mark.parametrize("role", ["member", "viewer"])
async def test_who_does_not_administer_a_project_sees_and_changes_nothing(inn: Inn, person: Person, role: str) -> None:
    async with inn.person() as boss:
        project = boss.projects["One"]
        await inn.owner.execute(
            "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, $3)",
            *(project, person.user_id, role),
        )
        before = await of(inn, project)
        page = await person.browser.get(f"/projects/{project}/settings")
        assert (page.status_code, '<fieldset class="plain" disabled>' in page.text) == (200, True)
        assert (await send(person, page, name="Mine")).status_code == 403
        end = await person.browser.get(f"/projects/{project}/delete")
        assert "does not let you" in end.text
        tried = await send(person, page, f"/projects/{project}/delete", name="One")
        assert tried.status_code == 403
        assert await of(inn, project) == before


async def test_projects_of_others_are_not_there(inn: Inn, person: Person) -> None:
    own = await person.browser.get("/projects/new")
    async with inn.person("Hidden") as other:
        project = other.projects["Hidden"]
        for one in (project, uuid7()):
            for path in ("", "/settings", "/delete"):
                assert (await person.browser.get(f"/projects/{one}{path}")).status_code == 404
            for path in ("/settings", "/delete"):
                fields = {"csrf": sheet(own)["csrf"], "name": "Hidden"}
                answer = await person.browser.post(f"/projects/{one}{path}", data=fields)
                assert answer.status_code == 404
        assert "Hidden" not in (await person.browser.get("/projects")).text


async def test_long_lists_go_on_and_empty_ones_say_what_to_do(inn: Inn) -> None:
    async with inn.person(*(f"Project {number:02}" for number in range(30))) as person:
        first = await person.browser.get("/projects")
        assert (first.text.count("Project "), 'rel="next"' in first.text) == (25, True)
        address = first.text.partition('<p><a href="')[2].partition('"')[0]
        rest = await person.browser.get(address)
        assert (rest.text.count("Project "), 'rel="next"' in rest.text) == (5, False)
        await inn.owner.execute("DELETE FROM projects WHERE created_by = $1", person.user_id)
        assert "You have no project yet" in (await person.browser.get("/projects")).text


async def test_a_form_sent_after_the_session_has_ended_leads_back_to_its_page(inn: Inn, person: Person) -> None:
    path = f"/projects/{person.projects['One']}/settings"
    page = await person.browser.get(path)
    person.browser.cookies.clear()
    stopped = await send(person, page)
    assert stopped.status_code == 401
    assert sheet(stopped, "/sign-in")["next"] == [path]
