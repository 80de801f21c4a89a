"""Keys, applications and devices."""

from __future__ import annotations

from uuid import UUID

import httpx2

from db.ids import uuid7
from db.tokens import token_hash
from tests.server.oauth.people import Program, hidden
from tests.server.site.acts.world import KEY, PROGRAM, P, Told, World, operators, row


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


async def typed_code(world: World) -> httpx2.Response:
    """The page that asks whether a device may come in."""
    terminal = Program(world.inn, "innkeeper-cli")
    code = (await terminal.post("/oauth/device_authorization", scope="projects:read")).json()["user_code"]
    page = await world.person.browser.get("/device")
    return await world.person.browser.post("/device", data={**hidden(page), "user_code": code})


async def disconnect(world: World, program: Program) -> None:
    app = await world.newest("oauth_clients", "client_id = $1", program.client_id)
    await world.form("/apps", f"/apps/{app}/disconnect")


async def made_service(world: World) -> tuple[str, UUID]:
    """A service account of One: its client id, and the account."""
    name = uuid7().hex
    await world.innkeeper("clients", "create", name, "--service", str(world.one))
    made = await world.inn.owner.fetchrow("SELECT client_id, user_id FROM oauth_clients WHERE name = $1", name)
    assert made is not None
    return made["client_id"], made["user_id"]


async def own_key(world: World) -> UUID:
    key: UUID = await world.newest("credentials", "kind = 'secret' AND name = $1 AND user_id = $2", KEY, world.me)
    return key
