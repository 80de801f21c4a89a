"""Projects, and what a person says to calls that ask."""

from __future__ import annotations

from typing import Any

from db import accounts
from tests.server.oauth.people import call
from tests.server.site.acts.world import KEY, P, Told, World, row
from tests.server.site.sheets import send


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


async def decided(world: World, decision: str) -> str:
    """A key asks to delete One, and its person decides on the page."""
    _id, key = await accounts.create_key(world.inn.owner, world.me, name=KEY)
    await call(world.inn, key, "delete_project", project_id=str(world.one))
    approval = await world.newest("approvals", "user_id = $1", world.me)
    await world.form(f"/approvals/{approval}", decision=decision)
    return str(approval)


async def settle(world: World, **changes: Any) -> None:
    answer = await world.form("settings", **changes)
    if answer.status_code == 200:  # the page asks once more about what loosens
        answer = await send(world.person, answer, world.path("settings"))
    assert answer.status_code == 303, answer.text
