"""Every act of the audit log as somebody carries it out: a person in a browser, a program, or the operator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2

from db import accounts
from db.ids import uuid7
from db.tokens import token_hash
from server import cli
from server.limits.newcomers import SIGN_INS_FROM_HERE
from tests.fakes.resend_server import ResendServer
from tests.server.issuers.house import House
from tests.server.oauth.people import Inn, Person, Program, call, hidden
from tests.server.site.sheets import send

AGENT: Final = "A browser of this test/1.0"
PROGRAM: Final = "A program of this test"
KEY: Final = "A key of this test"
SIGN_IN_PAGE: Final = "sign-in page"
PROVIDER_KEY: Final = "sk-good-0123456789abcdef"


@dataclass(frozen=True)
class Told:
    """What the log has to say. ``who``: did it or, where the operator, the house or a stranger did, whom it concerns;
    ``client``: from where, besides the address and the browser or program."""

    who: UUID
    target: str | None
    project: UUID | None = None
    detail: str | None = None
    client: str = "pages"


@dataclass
class World:
    """Somebody with the projects One and Two, signed in, and what they and others need."""

    inn: Inn
    person: Person
    house: House = field(repr=False)
    resend: ResendServer = field(repr=False)
    links: list[str | None] = field(repr=False)

    @property
    def me(self) -> UUID:
        return self.person.user_id

    @property
    def one(self) -> UUID:
        return self.person.projects["One"]

    async def email(self, user_id: UUID | None = None) -> str:
        return str(await self.inn.owner.fetchval("SELECT email FROM users WHERE id = $1", user_id or self.me))

    async def newest(self, table: str, condition: str, *given: object) -> Any:
        query = f"SELECT id FROM {table} WHERE {condition} ORDER BY id DESC LIMIT 1"
        return await self.inn.owner.fetchval(query, *given)

    async def session(self) -> UUID:
        mine: UUID = await self.newest("credentials", "kind = 'session' AND user_id = $1", self.me)
        return mine

    async def form(self, page: str, action: str = "", person: Person | None = None, **typed: Any) -> httpx2.Response:
        """Open a page of the project, or of the house, and send one of its forms."""
        person = person or self.person
        sent = await send(
            person, await person.browser.get(self.path(page)), self.path(action) if action else "", **typed
        )
        assert sent.status_code in (200, 303), sent.text
        return sent

    def path(self, page: str) -> str:
        return page if page.startswith("/") else f"/projects/{self.one}/{page}"

    async def innkeeper(self, *arguments: str) -> None:
        assert await asyncio.to_thread(cli.main, arguments) == 0, arguments

    async def program(self) -> Program:
        return await self.inn.program(client_name=PROGRAM)

    @contextlib.asynccontextmanager
    async def guest(self) -> AsyncIterator[Person]:
        """Somebody else, in a browser of the same name."""
        async with self.inn.person("Theirs") as guest:
            guest.browser.headers["user-agent"] = AGENT
            yield guest

    async def invite(self, guest: Person) -> UUID:
        """Into One, as a viewer."""
        address = await self.email(guest.user_id)
        await self.form("members", "members/invite", email=address, role="viewer")
        invitation: UUID = await self.newest("invitations", "address = $1", address)
        return invitation

    async def join(self, guest: Person) -> None:
        await self.inn.owner.execute(
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'viewer')",
            *(guest.user_id, self.one),
        )


Act = Callable[[World], Awaitable[Told]]


@dataclass(frozen=True)
class Row:
    """One way to do what the log calls ``kind``. ``ways``: the routes and commands it goes by."""

    kind: str
    ways: tuple[str, ...]
    act: Act


ROWS: Final[list[Row]] = []
P: Final = "/projects/{project_id:uuid}"


def row(kind: str, *ways: str) -> Callable[[Act], Act]:
    def enter(act: Act) -> Act:
        ROWS.append(Row(kind, ways, act))
        return act

    return enter


OperatorsAct = Callable[[World], Awaitable[tuple[UUID, str, UUID | None]]]


def operators(kind: str, command: str, detail: str | None = None) -> Callable[[OperatorsAct], None]:
    """A row of the operator's: gives the account it concerns, the target and the project."""

    def enter(act: OperatorsAct) -> None:
        async def told(world: World) -> Told:
            whom, target, project = await act(world)
            return Told(whom, target, project, detail, client="command line")

        ROWS.append(Row(kind, (command,), told))

    return enter


# Signing in and out


@row("session:opened", "/sign-in/link")
async def by_link(world: World) -> Told:
    await world.person.sign_in()
    return Told(world.me, "link")


@row("session:opened", "/sign-in", "/sign-in/mail")
async def by_mail(world: World) -> Told:
    page = await world.person.browser.get(await asked_link(world, world.person.browser))
    assert (await world.person.browser.post("/sign-in/mail", data=hidden(page))).status_code == 303
    return Told(world.me, "mail")


@row("session:closed", "/sign-out")
async def sign_out(world: World) -> Told:
    here = await world.session()
    await world.form("/sessions", "/sign-out")
    return Told(world.me, str(here))


@row("session:ended", "/sessions/{session_id:uuid}/end")
async def end_session(world: World) -> Told:
    async with world.inn.browser() as elsewhere:
        await Person(world.inn, elsewhere, world.me, {}).sign_in()
        other = await world.session()
        await world.form("/sessions", f"/sessions/{other}/end")
    return Told(world.me, str(other))


@row("session:others_ended", "/sessions/end-others")
async def end_others(world: World) -> Told:
    async with world.inn.browser() as elsewhere:
        await Person(world.inn, elsewhere, world.me, {}).sign_in()
        await world.form("/sessions", "/sessions/end-others")
    return Told(world.me, "1")


@row("sign_in:limited", "/sign-in")
async def try_too_often(world: World) -> Told:
    address = await world.email()
    async with stranger(world) as browser:
        page = await browser.get("/sign-in")
        tries = 10 * int(SIGN_INS_FROM_HERE.burst) + 10
        while (await browser.post("/sign-in", data={**hidden(page), "email": address})).status_code != 429:
            tries -= 1
            assert tries
    return Told(world.me, "mail", client=SIGN_IN_PAGE)


@row("sign_in:refused", "/sign-in")
async def open_somebody_elses_link(world: World) -> Told:
    link = await asked_link(world, world.person.browser)
    async with stranger(world) as browser:
        for _ in range(2):  # noted once
            assert (await browser.get(link)).status_code == 403
    return Told(world.me, "mail", detail="in another browser", client=SIGN_IN_PAGE)


@row("sign_in:refused")
async def come_from_an_issuer_to_a_disabled_account(world: World) -> Told:
    user_id = await with_github(world)
    await world.inn.owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", user_id)
    async with world.house.browser() as browser:
        browser.http.headers["user-agent"] = AGENT
        assert (await browser.sign_in("github")).status_code == 403
    return Told(user_id, "github", detail="the account is disabled", client=SIGN_IN_PAGE)


@operators("link:created", "open", "link")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("open", "--user", str(world.me), "--url", world.inn.url)
    return world.me, str(await world.newest("credentials", "kind = 'link' AND user_id = $1", world.me)), None


# Accounts


@row("account:created")
async def sign_up(world: World) -> Told:
    user_id = await with_github(world)
    return Told(user_id, str(user_id))


@operators("account:created", "users add")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    address = f"{uuid7().hex}@example.test"
    await world.innkeeper("users", "add", address)
    made = await world.newest("users", "email = $1", address)
    return made, str(made), None


@operators("account:disabled", "users disable")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("users", "disable", str(world.me))
    return world.me, str(world.me), None


@operators("account:enabled", "users enable")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("users", "disable", str(world.me))
    await world.innkeeper("users", "enable", str(world.me))
    return world.me, str(world.me), None


@row("account:disabled", "/admin/accounts/{user_id:uuid}/disable")
async def disable_as_an_administrator(world: World) -> Told:
    async with world.guest() as guest:
        await switch(world, guest, "disable")
        return Told(world.me, str(guest.user_id))


@row("account:enabled", "/admin/accounts/{user_id:uuid}/enable")
async def enable_as_an_administrator(world: World) -> Told:
    async with world.guest() as guest:
        await switch(world, guest, "disable")
        await switch(world, guest, "enable")
        return Told(world.me, str(guest.user_id))


@operators("account:deleted", "users delete")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("users", "delete", str(world.me), "--with-projects")
    return world.me, str(world.me), None


@operators("delete_project", "users delete")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("users", "delete", str(world.me), "--with-projects")
    last = world.person.projects["Two"]
    return world.me, str(last), last


@operators("admin:granted", "admin grant")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("admin", "grant", str(world.me))
    return world.me, str(world.me), None


@operators("admin:revoked", "admin revoke")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("admin", "grant", str(world.me))
    await world.innkeeper("admin", "revoke", str(world.me))
    return world.me, str(world.me), None


@row("identity:connected")
async def connect_an_identity(world: World) -> Told:
    return Told(await with_github(world), "github")


@row("identity:disconnected", "/account/identities/{identity_id:uuid}/disconnect")
async def disconnect_an_identity(world: World) -> Told:
    async with world.house.browser() as browser:
        user_id = await with_github(world, browser.http)
        person = browser.person(user_id)
        identity = await world.newest("identities", "user_id = $1", user_id)
        await world.form("/account", f"/account/identities/{identity}/disconnect", person)
    return Told(user_id, "github")


@row("identity:suspended")
async def an_issuer_refuses(world: World) -> Told:
    user_id = await with_github(world)
    subject = await world.inn.owner.fetchval("SELECT subject FROM identities WHERE user_id = $1", user_id)
    world.house.github.revoke()
    await world.house.recheck(subject)
    return Told(user_id, "github", client="this house")


# Keys and applications


@row("key:created", f"{P}/keys/new")
async def make_a_key(world: World) -> Told:
    await world.form("keys/new?kind=secret", "keys/new", name=KEY, days="30")
    return Told(world.me, str(await own_key(world)), world.one, "secret")


@row("key:revoked", f"{P}/keys/{{key_id:uuid}}/revoke")
async def revoke_a_key(world: World) -> Told:
    await world.form("keys/new?kind=secret", "keys/new", name=KEY, days="30")
    key = await own_key(world)
    await world.form("keys", f"keys/{key}/revoke")
    return Told(world.me, str(key), world.one, "secret")


@operators("key:created", "keys create", "secret")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("keys", "create", KEY, "--user", str(world.me), "--project", str(world.one))
    return world.me, str(await own_key(world)), world.one


@operators("key:revoked", "keys revoke", "secret")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    await world.innkeeper("keys", "create", KEY, "--user", str(world.me), "--project", str(world.one))
    await world.innkeeper("keys", "revoke", str(await own_key(world)))
    return world.me, str(await own_key(world)), world.one


@operators("client:created", "clients create")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    client_id, service = await made_service(world)
    return service, client_id, world.one


@operators("client:deleted", "clients delete")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    client_id, service = await made_service(world)
    await world.innkeeper("clients", "delete", client_id)
    return service, client_id, world.one


@row("oauth:allowed", "/oauth/authorize")
async def let_a_program_in(world: World) -> Told:
    program = await world.program()
    await program.code(world.person, projects=["One"], read_only=True)
    return Told(world.me, program.client_id, None, f"projects:read in {world.one}, read-only")


@row("oauth:denied", "/oauth/authorize")
async def turn_a_program_away(world: World) -> Told:
    program = await world.program()
    await world.person.press(await world.person.browser.get(program.address()), "deny")
    return Told(world.me, program.client_id)


@row("oauth:granted", "/oauth/token", "/oauth/register")
async def redeem_a_code(world: World) -> Told:
    program = await world.program()
    await program.tokens(world.person, projects=["One"])
    return Told(world.me, program.client_id, world.one, client=PROGRAM)


@row("oauth:disconnected", "/apps/{app_id:uuid}/disconnect")
async def disconnect_a_program(world: World) -> Told:
    program = await world.program()
    await program.tokens(world.person)
    await disconnect(world, program)
    return Told(world.me, program.client_id, client=PROGRAM)


@row("oauth:revoked", "/oauth/revoke")
async def revoke_a_grant(world: World) -> Told:
    program = await world.program()
    await program.post("/oauth/revoke", token=(await program.tokens(world.person))["refresh_token"])
    return Told(world.me, program.client_id, client=PROGRAM)


@row("oauth:token_revoked", "/oauth/revoke")
async def revoke_one_token(world: World) -> Told:
    program = await world.program()
    await program.post("/oauth/revoke", token=(await program.tokens(world.person))["access_token"])
    return Told(world.me, program.client_id, client=PROGRAM)


@row("oauth:refresh_replayed", "/oauth/token")
async def replay_a_refresh(world: World) -> Told:
    program = await world.program()
    first = (await program.tokens(world.person))["refresh_token"]
    await program.refresh((await program.refresh(first)).json()["refresh_token"])
    await world.inn.owner.execute(
        "UPDATE oauth_refresh_tokens r SET used_at = r.used_at - interval '1 hour' FROM oauth_refresh_tokens f"
        " WHERE f.token_hash = $1 AND r.credential_id = f.credential_id",
        token_hash(first),
    )
    assert (await program.refresh(first)).status_code == 400
    return Told(world.me, program.client_id, client=PROGRAM)


@row("oauth:code_replayed", "/oauth/token")
async def replay_a_code(world: World) -> Told:
    program = await world.program()
    code = await program.code(world.person)
    assert (await program.exchange(code)).status_code == 200
    assert (await program.exchange(code)).status_code == 400
    return Told(world.me, program.client_id, client=PROGRAM)


@row("device:allowed", "/device", "/oauth/device_authorization")
async def let_a_device_in(world: World) -> Told:
    await world.person.press(await typed_code(world), "allow", projects=["One"])
    return Told(world.me, "innkeeper-cli", None, f"projects:read in {world.one}")


@row("device:denied", "/device")
async def turn_a_device_away(world: World) -> Told:
    await world.person.press(await typed_code(world), "deny")
    return Told(world.me, "innkeeper-cli")


# Members


@row("invite_member", f"{P}/members/invite")
async def invite(world: World) -> Told:
    async with world.guest() as guest:
        return Told(world.me, str(await world.invite(guest)), world.one)


@row("resend_invitation", f"{P}/members/invitations/{{invitation_id:uuid}}/resend")
async def resend(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("members", f"members/invitations/{invitation}/resend")
        return Told(world.me, str(invitation), world.one)


@row("revoke_invitation", f"{P}/members/invitations/{{invitation_id:uuid}}/revoke")
async def take_back(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("members", f"members/invitations/{invitation}/revoke")
        return Told(world.me, str(invitation), world.one)


@row("invitation:accepted", "/invitations")
async def accept(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="accept")
        return Told(guest.user_id, str(invitation), world.one, "viewer")


@row("member:added", "/invitations")
async def join(world: World) -> Told:
    async with world.guest() as guest:
        await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="accept")
        return Told(guest.user_id, str(guest.user_id), world.one, "viewer")


@row("invitation:declined", "/invitations")
async def decline(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="decline")
        return Told(guest.user_id, str(invitation), world.one)


@row("member:role", f"{P}/members/{{member_id:uuid}}/role")
async def change_a_role(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", f"members/{guest.user_id}/role", role="admin")
        return Told(world.me, str(guest.user_id), world.one, "admin (was viewer)")


@row("member:removed", f"{P}/members/{{member_id:uuid}}/remove")
async def remove(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", f"members/{guest.user_id}/remove")
        return Told(world.me, str(guest.user_id), world.one, "viewer")


@row("member:left", f"{P}/members/leave")
async def leave(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", "members/leave", guest)
        return Told(guest.user_id, str(guest.user_id), world.one, "viewer")


@row("project:transferred", f"{P}/members/transfer")
async def transfer(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", "members/transfer", member=str(guest.user_id), name="One")
        return Told(world.me, str(world.one), world.one, str(guest.user_id))


# Projects


@row("create_project", "/projects/new")
async def make_a_project(world: World) -> Told:
    await world.form("/projects/new", "/projects/new", name="Three")
    return Told(world.me, str(await world.newest("projects", "created_by = $1", world.me)))


@row("project:approvals", f"{P}/settings")
async def ask_less(world: World) -> Told:
    await settle(world, approvals="never")
    return Told(world.me, str(world.one), world.one, "never (was always)")


@row("project:registry", f"{P}/settings")
async def publish(world: World) -> Told:
    await settle(world, registry_public="yes")
    return Told(world.me, str(world.one), world.one, "public")


@row("update_project", f"{P}/settings")
async def settings(world: World) -> Told:
    await settle(world, name="Renamed")
    return Told(world.me, str(world.one), world.one)


@row("allow:update_project", f"{P}/settings")
async def allow_on_the_page_itself(world: World) -> Told:
    await settle(world, registry_public="yes")
    return Told(world.me, str(await world.newest("approvals", "user_id = $1", world.me)), world.one)


@row("allow:delete_project", "/approvals/{approval_id:uuid}")
async def allow(world: World) -> Told:
    return Told(world.me, await decided(world, "allow"), world.one)


@row("deny:delete_project", "/approvals/{approval_id:uuid}")
async def deny(world: World) -> Told:
    return Told(world.me, await decided(world, "deny"), world.one)


@row("delete_project", f"{P}/delete")
async def delete(world: World) -> Told:
    await world.form("delete", name="One")
    return Told(world.me, str(world.one), world.one)


@row("create_project", "/mcp")
async def a_tool_by_a_key(world: World) -> Told:
    _id, key = await accounts.create_key(world.inn.owner, world.me, name=KEY)
    made = (await call(world.inn, key, "create_project", name="By a key")).json()["result"]["structuredContent"]
    return Told(world.me, made["id"], client=KEY)


# Secrets, and whose word counts


@row("enter_provider_key", f"{P}/provider-keys")
async def enter_a_provider_key(world: World) -> Told:
    await world.form("provider-keys", provider="openai", key=PROVIDER_KEY)
    return Told(world.me, str(await world.newest("provider_keys", "project_id = $1", world.one)), world.one)


@row("delete_provider_key", f"{P}/provider-keys/delete")
async def delete_a_provider_key(world: World) -> Told:
    await world.form("provider-keys", provider="openai", key=PROVIDER_KEY)
    key = await world.newest("provider_keys", "project_id = $1", world.one)
    await world.form("provider-keys", "provider-keys/delete")
    return Told(world.me, str(key), world.one)


@row("enter_email_account", f"{P}/email")
async def enter_a_mail_account(world: World) -> Told:
    await enter_mail(world)
    return Told(world.me, None, world.one)


@row("delete_email_account", f"{P}/email/delete")
async def delete_a_mail_account(world: World) -> Told:
    await enter_mail(world)
    await world.form("email", "email/delete")
    return Told(world.me, None, world.one)


@row("send_email_again", "/mails/{project_id:uuid}/{email_id:uuid}/again")
async def send_again(world: World) -> Told:
    _id, key = await accounts.create_key(world.inn.owner, world.me, name=KEY)
    await world.inn.owner.execute("UPDATE projects SET approval_policy = 'never' WHERE id = $1", world.one)
    mail: dict[str, Any] = {"to": ["ada@example.org"], "subject": "Hello", "text": "Hello"}
    sent = await call(world.inn, key, "send_email", project_id=str(world.one), **mail)
    email = sent.json()["result"]["structuredContent"]["id"]
    await world.inn.owner.execute("UPDATE emails SET status = 'kept' WHERE id = $1", UUID(email))
    await world.form(f"/mails/{world.one}/{email}", f"/mails/{world.one}/{email}/again")
    return Told(world.me, email, world.one)


@row("token_source:added", f"{P}/end-users/sources")
async def name_whose_word_counts(world: World) -> Told:
    return Told(world.me, str(await added_source(world)), world.one, "hs256")


@row("token_source:deleted", f"{P}/end-users/sources/delete")
async def take_a_word_back(world: World) -> Told:
    source = await added_source(world)
    await world.form("end-users", "end-users/sources/delete", source=str(source))
    return Told(world.me, str(source), world.one)


@row("end_users:rules_changed", f"{P}/end-users/rules")
async def change_the_rules(world: World) -> Told:
    await world.form("end-users", "end-users/rules", user_keys_from_browsers="yes")
    said = "visitors without a name: yes, userKey from browsers: yes"
    return Told(world.me, str(world.one), world.one, said)


@operators("source:secret", "sources secret")
async def _(world: World) -> tuple[UUID, str, UUID | None]:
    source = uuid7()
    await world.inn.owner.execute(
        "INSERT INTO registry_sources (project_id, id, url, kind, created_by, credential_id)"
        " VALUES ($1, $2, 'https://example.org/registry.json', 'manifest', $3, $2)",
        *(world.one, source, world.me),
    )
    await world.innkeeper("sources", "secret", str(source))
    return UUID(int=0), str(source), world.one


# What several of them do


@contextlib.asynccontextmanager
async def stranger(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.inn.browser() as browser:
        browser.headers["user-agent"] = AGENT
        yield browser


async def asked_link(world: World, browser: httpx2.AsyncClient) -> str:
    """The link that this browser gets to sign in with, as the terminal prints it."""
    page = await browser.get("/sign-in")
    if page.status_code == 303:  # somebody is signed in here
        browser.cookies.clear()
        page = await browser.get("/sign-in")
    assert (await browser.post("/sign-in", data={**hidden(page), "email": await world.email()})).status_code == 200
    link = world.links[-1]
    assert link is not None
    return link


async def with_github(world: World, http: httpx2.AsyncClient | None = None) -> UUID:
    """Somebody new, who signs up with GitHub."""
    number = uuid7().int % 10**9
    world.house.github.of(number, (f"{number}@example.org", True, True))
    async with world.house.browser() as browser:
        if http is not None:
            browser.http = http
        browser.http.headers["user-agent"] = AGENT
        assert (await browser.sign_in("github")).status_code == 303
    user_id: UUID = await world.newest("users", "email = $1", f"{number}@example.org")
    return user_id


async def switch(world: World, guest: Person, to: str) -> None:
    await world.inn.owner.execute("UPDATE users SET admin_at = now() WHERE id = $1", world.me)
    await world.form("/admin", f"/admin/accounts/{guest.user_id}/{to}")


async def own_key(world: World) -> UUID:
    key: UUID = await world.newest("credentials", "kind = 'secret' AND name = $1 AND user_id = $2", KEY, world.me)
    return key


async def made_service(world: World) -> tuple[str, UUID]:
    """A service account of One: its client id, and the account."""
    name = uuid7().hex
    await world.innkeeper("clients", "create", name, "--service", str(world.one))
    made = await world.inn.owner.fetchrow("SELECT client_id, user_id FROM oauth_clients WHERE name = $1", name)
    assert made is not None
    return made["client_id"], made["user_id"]


async def disconnect(world: World, program: Program) -> None:
    app = await world.newest("oauth_clients", "client_id = $1", program.client_id)
    await world.form("/apps", f"/apps/{app}/disconnect")


async def typed_code(world: World) -> httpx2.Response:
    """The page that asks whether a device may come in."""
    terminal = Program(world.inn, "innkeeper-cli")
    code = (await terminal.post("/oauth/device_authorization", scope="projects:read")).json()["user_code"]
    page = await world.person.browser.get("/device")
    return await world.person.browser.post("/device", data={**hidden(page), "user_code": code})


async def settle(world: World, **changes: Any) -> None:
    answer = await world.form("settings", **changes)
    if answer.status_code == 200:  # the page asks once more about what loosens
        answer = await send(world.person, answer, world.path("settings"))
    assert answer.status_code == 303, answer.text


async def decided(world: World, decision: str) -> str:
    """A key asks to delete One, and its person decides on the page."""
    _id, key = await accounts.create_key(world.inn.owner, world.me, name=KEY)
    await call(world.inn, key, "delete_project", project_id=str(world.one))
    approval = await world.newest("approvals", "user_id = $1", world.me)
    await world.form(f"/approvals/{approval}", decision=decision)
    return str(approval)


async def enter_mail(world: World) -> None:
    key = f"re_{uuid7().hex}"
    world.resend.keys.add(key)
    world.resend.verified[key] = ["example.org"]
    await world.form("email", "email", sender="desk@example.org", key=key, webhook_secret="")


async def added_source(world: World) -> UUID:
    typed: dict[str, Any] = {"kind": "hs256", "hs256-secret": "s" * 40, "hs256-issuer": "", "hs256-audience": ""}
    await world.form("end-users", "end-users/sources", **typed)
    source: UUID = await world.newest("token_sources", "project_id = $1", world.one)
    return source
