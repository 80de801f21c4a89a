"""Secrets of a project, its mail, and whose word counts for its end users."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from db import accounts
from db.ids import uuid7
from tests.server.oauth.people import call
from tests.server.site.acts.world import KEY, PROVIDER_KEY, P, Told, World, operators, row


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


async def added_source(world: World) -> UUID:
    typed: dict[str, Any] = {"kind": "hs256", "hs256-secret": "s" * 40, "hs256-issuer": "", "hs256-audience": ""}
    await world.form("end-users", "end-users/sources", **typed)
    source: UUID = await world.newest("token_sources", "project_id = $1", world.one)
    return source


async def enter_mail(world: World) -> None:
    key = f"re_{uuid7().hex}"
    world.resend.keys.add(key)
    world.resend.verified[key] = ["example.org"]
    await world.form("email", "email", sender="desk@example.org", key=key, webhook_secret="")
