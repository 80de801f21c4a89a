"""``innkeeper keys``: keys of accounts and projects, and the root secret, from the operator's side."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from db import accounts
from db.scopes import ALL_SCOPES
from server.commands.owning import Actions, act
from server.commands.reading import read_settings
from server.refusal import Refusal
from server.terminal import note, put, put_all

if TYPE_CHECKING:
    from server.roles import Connection


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    if arguments.action == "rotate":
        from server.commands.rotate import rotate

        return await rotate(read_settings(environment="development"), arguments)
    return await act(ACTIONS, arguments)


async def _create(connection: Connection, arguments: Namespace) -> None:
    user_id = await user_named(connection, arguments.user)
    expires_at = datetime.now(UTC) + timedelta(days=arguments.days) if arguments.days else None
    project_id = uuid_of(arguments.project, "--project") if arguments.project else None
    if arguments.origin and not arguments.publishable:
        raise Refusal("--origin lists the pages of a key for browsers: add --publishable.")
    if arguments.publishable:
        key_id, token = await _create_publishable_key(connection, user_id, project_id, arguments, expires_at)
    elif arguments.feed:
        key_id, token = await _create_feed_key(connection, user_id, project_id, arguments, expires_at)
    else:
        key_id, token = await accounts.create_key(
            connection,
            user_id,
            name=arguments.name,
            project_id=project_id,
            scopes=arguments.scope,
            read_only=arguments.read_only,
            expires_at=expires_at,
        )
    if arguments.json:
        put(json.dumps({"id": str(key_id), "key": token}))
        return
    note(f"Key {key_id}. It is shown this once:")
    put(token)


async def _create_feed_key(
    connection: Connection, user_id: UUID, project_id: UUID | None, arguments: Namespace, expires_at: datetime | None
) -> tuple[UUID, str]:
    if project_id is None:
        raise Refusal("--feed makes a key of one project's registry: name it with --project.")
    if arguments.scope or arguments.read_only:
        raise Refusal("--feed makes a key that only reads a registry's feed: leave --scope and --read-only out.")
    return await accounts.create_feed_key(connection, user_id, project_id, name=arguments.name, expires_at=expires_at)


async def _create_publishable_key(
    connection: Connection, user_id: UUID, project_id: UUID | None, arguments: Namespace, expires_at: datetime | None
) -> tuple[UUID, str]:
    if project_id is None:
        raise Refusal("--publishable makes a key for the end users of one project: name it with --project.")
    if arguments.scope or arguments.read_only or arguments.feed:
        raise Refusal("--publishable makes a key that only acts for end users: leave other rights out.")
    return await accounts.create_publishable_key(
        connection, user_id, project_id, origins=arguments.origin or (), name=arguments.name, expires_at=expires_at
    )


async def _list(connection: Connection, arguments: Namespace) -> None:
    user_id = await user_named(connection, arguments.user) if arguments.user else None
    keys = await accounts.list_keys(connection, user_id)
    if arguments.json:
        put(json.dumps([_shown(key) for key in keys]))
        return
    put_all(map(_line, keys))


def _line(key: accounts.Key) -> str:
    state = "revoked" if key.revoked_at else "expired" if _expired(key) else "live"
    where = f"project {key.project_id}" if key.project_id else "all projects"
    return f"{key.id}  {key.hint}…  {state:<7}  {where}  {_rights(key)}  {key.name}"


async def _revoke(connection: Connection, arguments: Namespace) -> None:
    if arguments.user:
        theirs = {
            str(key.id) for key in await accounts.list_keys(connection, await user_named(connection, arguments.user))
        }
        if arguments.id not in theirs:
            raise Refusal(f"{arguments.user} has no key {arguments.id}: see 'innkeeper keys list'.")
    key = await accounts.revoke_key(connection, arguments.id)
    put(json.dumps(_shown(key)) if arguments.json else f"Key {key.id} ({key.hint}…) is revoked.")


ACTIONS: Actions = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
}


async def user_named(connection: Connection, named: str | None) -> UUID:
    """By id or by e-mail; the account that ``up`` made when nobody is named."""
    try:
        return UUID(named or "")
    except ValueError:
        return await accounts.find_user(connection, named)


def uuid_of(text: str, option: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refusal(f"{option} {text} is not an id: give the UUID that list_projects shows.") from None


def _rights(key: accounts.Key) -> str:
    if key.kind == "publishable":
        return f"publishable:{','.join(key.origins or ())}"
    if key.kind == "feed" or key.read_only:
        return "feed" if key.kind == "feed" else "read-only"
    return "every scope" if frozenset(key.scopes) >= ALL_SCOPES else ",".join(key.scopes)


def _expired(key: accounts.Key) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.now(UTC)


def _shown(key: accounts.Key) -> dict[str, object]:
    return {
        "id": str(key.id),
        "kind": key.kind,
        "name": key.name,
        "hint": key.hint,
        "user_id": str(key.user_id),
        "project_id": str(key.project_id) if key.project_id else None,
        "scopes": list(key.scopes),
        **({} if key.origins is None else {"origins": list(key.origins)}),
        "read_only": key.read_only,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
