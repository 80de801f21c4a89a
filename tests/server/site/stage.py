"""A house in which every page has something to show, and the pages there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from starlette.routing import Route

from db import accounts, house_mails, invitations, keys, provider_keys, sessions
from db.ids import uuid7
from db.principal import Principal
from server.mail.unsubscribe import PATH as UNSUBSCRIBE
from server.site.pages import PageRoute
from tests.server.oauth.people import Inn, Person, Program
from tools.approval import ApprovalRequiredError
from tools.narrowing import Narrowing

LONG = "A reading room with a rather long name, for the people of the Northern Lighthouse Association"
HTML = "<h1>Hello</h1><p>The room is ready.</p>"


@dataclass
class Stage:
    """Somebody with a project in which much goes on. ``ids``: of what pages show, by the name in their addresses."""

    inn: Inn
    person: Person
    program: Program
    ids: dict[str, object] = field(default_factory=dict)

    @property
    def project(self) -> UUID:
        return self.person.projects[LONG]

    async def link(self, path: str) -> str:
        """The address of ``path`` with a link of ``innkeeper open``."""
        token = await sessions.create_link(self.inn.owner, self.person.user_id)
        return f"{path}{'&' if '?' in path else '?'}link={token}"


@dataclass(frozen=True)
class Visit:
    """One state of a page. ``template``: of its route; ``signed_in``: whether somebody is; ``hidden``: to others it is
    not there."""

    name: str
    template: str
    path: Callable[[Stage], str]
    status: int = 200
    signed_in: bool = True
    hidden: bool = False


def _own(template: str) -> Callable[[Stage], str]:
    return lambda stage: template.replace(":uuid", "").format(**stage.ids)


def _visit(name: str, template: str, query: str = "") -> Visit:
    return Visit(name, template, lambda stage: _own(template)(stage) + query)


_PROJECT = "/projects/{project_id:uuid}"
VISITS = (
    Visit("sign-in", "/sign-in", lambda _stage: "/sign-in", signed_in=False),
    Visit("stopped", "/approvals", lambda _stage: "/approvals", 401, signed_in=False),
    Visit("link-closed", "/sign-in/mail", lambda _stage: "/sign-in/mail?token=x", 403, signed_in=False),
    Visit("unsubscribe", f"{UNSUBSCRIBE}/{{token}}", lambda stage: str(stage.ids["unsubscribe"]), signed_in=False),
    _visit("projects", "/projects"),
    _visit("project-new", "/projects/new"),
    _visit("project", _PROJECT),
    _visit("project-settings", f"{_PROJECT}/settings"),
    _visit("project-delete", f"{_PROJECT}/delete"),
    _visit("keys", f"{_PROJECT}/keys"),
    _visit("key-new", f"{_PROJECT}/keys/new", "?kind=secret"),
    _visit("key-new-publishable", f"{_PROJECT}/keys/new", "?kind=publishable"),
    _visit("members", f"{_PROJECT}/members"),
    _visit("audit", f"{_PROJECT}/audit"),
    _visit("provider-keys", f"{_PROJECT}/provider-keys"),
    _visit("end-users", f"{_PROJECT}/end-users"),
    _visit("mail-account", f"{_PROJECT}/email"),
    _visit("account", "/account"),
    Visit("account-elsewhere", "/account/connect/{issuer}", lambda _stage: "/account/connect/nobody", 404),
    Visit("sign-in-elsewhere", "/sign-in/with/{issuer}", lambda _stage: "/sign-in/with/nobody", 404, signed_in=False),
    Visit(
        *("callback", "/api/auth/callback/{issuer}", lambda _stage: "/api/auth/callback/nobody", 404),
        signed_in=False,
    ),
    Visit("administration", "/admin", lambda _stage: "/admin", hidden=True),
    _visit("approvals", "/approvals"),
    _visit("approval", "/approvals/{approval_id:uuid}"),
    Visit("mails", "/mails", lambda stage: f"/mails?project={stage.project}"),
    _visit("mail", "/mails/{project_id:uuid}/{email_id:uuid}"),
    _visit("house-mail", "/mails/house/{mail_id:uuid}"),
    _visit("apps", "/apps"),
    _visit("sessions", "/sessions"),
    _visit("own-audit", "/account/audit"),
    _visit("invitations", "/invitations"),
    Visit("invitation", "/invitations/{token:str}", lambda stage: str(stage.ids["invitation"]), signed_in=False),
    _visit("device", "/device"),
    Visit("consent", "/oauth/authorize", lambda stage: stage.program.address(scope="projects:read storage:write")),
    Visit("not-found", "/projects/{project_id:uuid}", lambda _stage: f"/projects/{uuid7()}", 404),
    Visit("no-such-page", "", lambda _stage: "/nothing/here", 404),
)
FRAMED = {"/mails/{project_id:uuid}/{email_id:uuid}/html", "/mails/house/{mail_id:uuid}/html"}
"""What others wrote, in frames of pages of the walk."""


def pages(inn: Inn) -> set[str]:
    """The templates of all routes behind which people find a page."""
    return {
        route.path
        for route in inn.app.routes
        if isinstance(route, Route) and "GET" in (route.methods or ()) and _is_for_people(route)
    }


def _is_for_people(route: Route) -> bool:
    return isinstance(route, PageRoute) or route.path.startswith(UNSUBSCRIBE)


@asynccontextmanager
async def stage(inn: Inn) -> AsyncIterator[Stage]:
    async with inn.person(LONG, "Harbour") as person:
        found = Stage(inn, person, await inn.program(client_name="Lantern"))
        found.ids["project_id"] = found.project
        await _fill(found)
        yield found


async def _fill(stage: Stage) -> None:
    inn, person = stage.inn, stage.person
    owner, services = inn.owner, inn.services
    await owner.execute(
        "UPDATE users SET email = $2, name = 'Ada', admin_at = now() WHERE id = $1",
        *(person.user_id, f"ada.{person.user_id.hex[-6:]}@northern-lighthouse.example"),
    )
    await owner.execute(
        "UPDATE projects SET instructions = 'Answer in one sentence.', model = 'openai:gpt-5.2' WHERE id = $1",
        stage.project,
    )
    _id, token = await accounts.create_key(owner, person.user_id, name="the night watch")
    caller = await services.authenticator.authenticate(token)
    assert caller is not None

    async def call(tool: str, **arguments: object) -> dict[str, object]:
        given = {"project_id": str(stage.project), **arguments}
        narrowing = Narrowing(families=services.catalog.families)
        return (await services.dispatch.call(caller, tool, given, narrowing=narrowing)).structured

    try:
        await call("delete_project")
    except ApprovalRequiredError as waiting:
        stage.ids["approval_id"] = waiting.asked.id
    await owner.execute("UPDATE projects SET approval_policy = 'never' WHERE id = $1", stage.project)
    await _people(stage, caller)
    contact = await call("upsert_contact", email="grace@example.org")
    sent = await call("send_email", to=["Grace <grace@example.org>"], subject="The room is ready", html=HTML)
    await owner.execute("UPDATE emails SET status = 'kept' WHERE id = $1", UUID(str(sent["id"])))
    await owner.execute("UPDATE projects SET approval_policy = 'always' WHERE id = $1", stage.project)
    stage.ids["email_id"] = sent["id"]
    links = services.post.links
    unsubscribe = links.of_contact(stage.project, UUID(str(contact["id"])), UUID(str(sent["id"])))
    stage.ids["unsubscribe"] = UNSUBSCRIBE + unsubscribe.partition(UNSUBSCRIBE)[2]
    async with services.database.system() as connection:
        await house_mails.queue_welcome(connection, person.user_id)
    stage.ids["mail_id"] = await owner.fetchval("SELECT id FROM house_mails WHERE user_id = $1", person.user_id)
    await _make_keys(stage)
    await owner.executemany(
        "INSERT INTO token_sources (project_id, id, kind, issuer, audience, created_by)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (stage.project, uuid7(), "issuer", "https://id.lighthouse.example/realms/guests", "shop", person.user_id),
            (stage.project, uuid7(), "none", None, None, person.user_id),
        ],
    )
    await (await inn.program(client_name="Cartographer’s desk")).tokens(person, projects=[LONG])


async def _make_keys(stage: Stage) -> None:
    database, project = stage.inn.services.database, stage.project
    session = await sessions.open_session(database, await sessions.create_link(stage.inn.owner, stage.person.user_id))
    person = await sessions.find_session(database, session or "")
    assert person is not None
    async with database.transaction(person, project) as connection:
        await provider_keys.put(
            *(connection, project, "openai"),
            key_id=uuid7(),
            base_url=None,
            sealed=b"sealed",
            hint="wxyz",
            created_by=stage.person.user_id,
            checked=True,
        )
        ends = datetime.now(UTC) + timedelta(days=90)
        await keys.create(connection, project, "secret", name="The night watch", expires_at=ends)
        origins = ["https://lighthouse.example", "http://localhost:3000"]
        await keys.create(connection, project, "publishable", name="The visitors’ book", origins=origins)


async def _people(stage: Stage, caller: Principal) -> None:
    """Members in every role, somebody who is invited, and an invitation from elsewhere that waits."""
    owner = stage.inn.owner
    for role in ("admin", "member", "viewer"):
        user_id = await accounts.create_user(owner, f"{role}.{uuid7().hex[-6:]}@northern-lighthouse.example", "")
        await owner.execute(
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)", user_id, stage.project, role
        )
    async with stage.inn.services.database.transaction(caller, stage.project) as connection:
        sent = await invitations.invite(
            connection, stage.project, caller.user_id, "grace@example.org", "member", seal=None
        )
    stage.ids["invitation"] = f"/invitations/{sent.token}"
    async with stage.inn.person("Pier") as other:
        await owner.execute(
            "INSERT INTO invitations (project_id, id, address, role, invited_by, token_hash)"
            " SELECT $1, $2, u.email, 'viewer', $3, $4 FROM users u WHERE u.id = $5",
            *(other.projects["Pier"], uuid7(), other.user_id, uuid7().bytes, stage.person.user_id),
        )
