"""Accounts, administrators, and accounts at issuers."""

from __future__ import annotations

from uuid import UUID

from db.ids import uuid7
from tests.server.oauth.people import Person
from tests.server.site.acts.world import Told, World, operators, row, with_github


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


async def switch(world: World, guest: Person, to: str) -> None:
    await world.inn.owner.execute("UPDATE users SET admin_at = now() WHERE id = $1", world.me)
    await world.form("/admin", f"/admin/accounts/{guest.user_id}/{to}")
