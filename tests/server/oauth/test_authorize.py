"""From the first request of a program to a token that works: the page of consent and what it leaves behind."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.server.oauth.people import BACK, Inn, Person, answered, call, hidden, offered, ticked

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.promise("IDN-10")
async def test_a_program_registers_asks_is_allowed_and_calls_a_tool(inn: Inn, person: Person) -> None:
    program = await inn.program()
    page = await person.browser.get(program.address())
    assert page.status_code == 200
    assert "A program" in page.text
    assert "127.0.0.1:9" in page.text
    assert "set-cookie" not in page.headers

    answer = await person.press(page, "allow")
    told = answered(answer)
    assert answer.headers["location"].startswith(f"{BACK}?")
    assert (told["state"], told["iss"]) == ("the-state", inn.url)
    tokens = (await program.exchange(told["code"])).json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["scope"] == "projects:read projects:write"
    assert tokens["access_token"].startswith("ik_at_")
    assert tokens["refresh_token"].startswith("ik_rt_")

    made = await call(inn, tokens["access_token"], "create_project", name="Made by a program")
    assert made.json()["result"]["structuredContent"]["name"] == "Made by a program"
    assert (await call(inn, tokens["refresh_token"], "list_projects")).status_code == 401


@pytest.mark.promise("IDN-12")
async def test_a_person_chooses_projects_and_the_token_reaches_no_other(
    inn: Inn, person: Person, stranger: Person
) -> None:
    program = await inn.program()
    one = await program.tokens(person, projects=["One"])
    listed = (await call(inn, one["access_token"], "list_projects")).json()["result"]["structuredContent"]
    assert [project["name"] for project in listed["projects"]] == ["One"]

    third = await inn.program()
    async with inn.person("Red", "Green", "Blue") as painter:
        two = await third.tokens(painter, projects=["Red", "Blue"])
        listed = (await call(inn, two["access_token"], "list_projects")).json()["result"]["structuredContent"]
        assert {project["name"] for project in listed["projects"]} == {"Red", "Blue"}
        for name, found in (("Red", True), ("Blue", True), ("Green", False)):
            read = await call(inn, two["access_token"], "get_project", project_id=str(painter.projects[name]))
            assert read.json()["result"]["isError"] is not found
        changed = await call(
            inn, two["access_token"], "update_project", project_id=str(painter.projects["Green"]), name="Mine"
        )
        assert "project_not_found" in changed.text
        made = await call(inn, two["access_token"], "create_project", name="Another")
        assert "project_bound" in made.text or "bound" in made.text

        await inn.owner.execute("UPDATE projects SET name = 'Red' WHERE id = $1", painter.projects["Blue"])
        asked = (await painter.browser.get((await inn.program()).address())).text
        shown = {name: f"<code>{project}</code>" in asked for name, project in painter.projects.items()}
        assert shown == {"Red": True, "Green": False, "Blue": True}, "ids tell those of one name apart"

    foreign = await person.browser.get((await inn.program()).address())
    sent = await person.press(foreign, "allow", projects=[], project=str(stranger.projects["One"]))
    assert sent.status_code == 400
    assert "Choose at least one" in sent.text

    unclear = await person.press(foreign, "allow", project=str(person.projects["One"]))
    assert unclear.status_code == 400
    assert "Single projects are ticked, but all of them are chosen" in unclear.text, "never more than was meant"


@pytest.mark.promise("IDN-12")
async def test_read_only_beats_the_scopes_that_were_ticked(inn: Inn, person: Person) -> None:
    program = await inn.program()
    tokens = await program.tokens(person, read_only=True)
    assert tokens["scope"] == "projects:read"
    refused = await call(inn, tokens["access_token"], "create_project", name="No")
    assert refused.status_code == 200
    assert refused.json()["result"]["_meta"]["innkeeper/error"]["code"] == "read_only"
    only_writing = await inn.program()
    page = await person.browser.get(only_writing.address(scope="projects:write"))
    again = await person.press(page, "allow", read_only=True)
    assert again.status_code == 400
    assert "Nothing is allowed this way" in again.text


@pytest.mark.promise("IDN-12")
async def test_consent_is_remembered_and_more_is_asked_for_alone(inn: Inn, person: Person) -> None:
    program = await inn.program()
    await program.tokens(person, asked={"scope": "projects:read"}, projects=["One"])

    same = await person.browser.get(program.address(scope="projects:read"))
    assert "code" in answered(same), "nobody is asked twice"
    assert "code" in answered(await person.browser.get(program.address(scope="projects:read", prompt="none")))

    more = await person.browser.get(program.address(scope="projects:read projects:write"))
    assert more.status_code == 200
    assert offered(more) == ["projects:write"]
    assert "asks for more" in more.text
    assert "One, as before" in more.text
    tokens = (await program.exchange(answered(await person.press(more, "allow"))["code"])).json()
    assert tokens["scope"] == "projects:read projects:write"
    listed = (await call(inn, tokens["access_token"], "list_projects")).json()["result"]["structuredContent"]
    assert [project["name"] for project in listed["projects"]] == ["One"]

    anew = await person.browser.get(program.address(prompt="consent"))
    assert offered(anew) == ["projects:read", "projects:write"]


@pytest.mark.promise("IDN-12")
async def test_a_person_who_does_not_allow_is_not_asked_to_pay_for_it(inn: Inn, person: Person) -> None:
    program = await inn.program()
    page = await person.browser.get(program.address())
    told = answered(await person.press(page, "deny"))
    assert told["error"] == "access_denied"
    assert told["state"] == "the-state"
    assert "code" not in told
    assert (await person.browser.get(program.address())).status_code == 200, "nothing was remembered"


@pytest.mark.promise("IDN-12")
async def test_nothing_is_set_before_the_answer_and_an_answer_counts_once_for_one_request(
    inn: Inn, person: Person
) -> None:
    program, other = await inn.program(), await inn.program()
    consents = "SELECT count(*) FROM oauth_consents WHERE user_id = $1"
    page = await person.browser.get(program.address())
    assert await inn.owner.fetchval(consents, person.user_id) == 0
    assert await inn.owner.fetchval("SELECT count(*) FROM oauth_codes WHERE user_id = $1", person.user_id) == 0

    fields = hidden(page)
    elsewhere = await person.browser.post(
        other.address(), data={**fields, "decision": "allow", "projects": "all", "scope": ticked(page)}
    )
    assert elsewhere.status_code == 403
    widened = await person.browser.post(
        program.address(scope="projects:read projects:write runs:write"),
        data={**fields, "decision": "allow", "projects": "all", "scope": ["projects:read", "runs:write"]},
    )
    assert widened.status_code == 403
    assert await inn.owner.fetchval(consents, person.user_id) == 0

    first = await person.press(page, "allow")
    assert "code" in answered(first)
    again = await person.press(page, "allow")
    assert again.status_code == 409
    old = await person.press(page, "allow", request_id="0191b5d2-0000-7000-8000-000000000000")
    assert old.status_code == 400


@pytest.mark.promise("IDN-12")
async def test_the_page_cannot_be_framed_and_its_form_ends_at_the_application_alone(inn: Inn, person: Person) -> None:
    for uri, source in (
        (BACK, "http://127.0.0.1:9"),
        ("https://app.example/back", "https://app.example"),
        ("http://[::1]:7/back", "http:"),
        ("cursor://anysphere.cursor/oauth", "cursor:"),
    ):
        program = await inn.program(redirect_uris=[uri])
        page = await person.browser.get(program.address(redirect_uri=uri))
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert f"form-action 'self' {source};" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert "<script" not in page.text
        assert ("a program on this very computer" in page.text) == uri.startswith("http://")


async def test_who_is_not_signed_in_is_shown_how_and_comes_back(inn: Inn, person: Person) -> None:
    program = await inn.program()
    async with inn.browser() as nobody:
        page = await nobody.get(program.address())
        assert page.status_code == 401
        assert "innkeeper open" in page.text
        silent = answered(await nobody.get(program.address(prompt="none")))
    assert silent["error"] == "login_required"
    unknown = answered(await person.browser.get(program.address(prompt="none")))
    assert unknown["error"] == "consent_required"


@pytest.mark.promise("IDN-12")
async def test_a_connected_app_is_seen_and_ends_at_once(inn: Inn, person: Person, stranger: Person) -> None:
    program = await inn.program(client_name="The one to <b>end</b>")
    tokens = await program.tokens(person, projects=["Two"])
    code = await program.code(person)
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200

    page = await person.browser.get("/apps")
    assert "The one to &lt;b&gt;end&lt;/b&gt;" in page.text
    assert "In Two it may" in page.text
    assert "Create, change and delete projects" in page.text
    [client] = await inn.owner.fetch("SELECT id FROM oauth_clients WHERE client_id = $1", program.client_id)
    path = f"/apps/{client['id']}/disconnect"
    assert "The one to" not in (await stranger.browser.get("/apps")).text
    own = hidden(await stranger.browser.get("/apps"))
    assert (await stranger.browser.post(path, data=own)).status_code == 404
    assert (await person.browser.post(path, data={"csrf": "0" * 64})).status_code == 403
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200

    ended = await person.browser.post(path, data=hidden(page))
    assert urlsplit(ended.headers["location"]).path == "/apps"
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 401
    assert (await program.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await program.exchange(code)).json()["error"] == "invalid_grant"
    assert "The one to" not in (await person.browser.get("/apps")).text
    assert (await person.browser.get(program.address())).status_code == 200, "it has to ask again"
