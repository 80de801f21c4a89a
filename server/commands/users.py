"""``innkeeper users`` and ``innkeeper admin``: accounts, from the operator's side."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from typing import TYPE_CHECKING
from uuid import UUID

from db import users
from db.errors import not_found
from server.commands.keys import user_named
from server.commands.owning import Actions, act
from server.refusal import Refusal
from server.terminal import put
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    from server.roles import Connection


def run(arguments: Namespace) -> int:
    return asyncio.run(act(ACTIONS, arguments))


async def _list(connection: Connection, arguments: Namespace) -> None:
    found = await users.page(connection)
    if arguments.json:
        put(json.dumps([_shown(account) for account in found]))
        return
    for account in found:
        state = "disabled" if account.disabled_at else "admin" if account.admin_at else "active"
        held = f"projects: {account.projects}; sessions, grants and keys: {account.credentials}"
        put(f"{account.id}  {state:<8}  {account.email}  {held}  {account.name}".rstrip())


async def _add(connection: Connection, arguments: Namespace) -> None:
    try:
        mailbox = Mailbox.parse(arguments.user)
    except ValueError as error:
        raise Refusal(f"{arguments.user} {error}.") from None
    user_id = await users.add(connection, mailbox.key, mailbox.name)
    _say(arguments, f"{mailbox.key} has an account and may sign in.", user_id)


async def _disable(connection: Connection, arguments: Namespace) -> None:
    user_id = await _known(connection, arguments.user)
    ended = await users.disable(connection, user_id)
    _say(
        arguments, f"{arguments.user} is disabled; {ended} sessions, grants and keys have ended.", user_id, ended=ended
    )


async def _enable(connection: Connection, arguments: Namespace) -> None:
    user_id = await _known(connection, arguments.user)
    await users.enable(connection, user_id)
    _say(arguments, f"{arguments.user} may sign in again; what had ended stays so.", user_id)


async def _delete(connection: Connection, arguments: Namespace) -> None:
    user_id = await _known(connection, arguments.user)
    gone = await users.delete(connection, user_id, with_projects=arguments.with_projects)
    along = f", with the projects {', '.join(gone)}" if gone else ""
    _say(arguments, f"{arguments.user} is deleted{along}.", user_id, projects=gone)


async def _grant(connection: Connection, arguments: Namespace) -> None:
    user_id = await _known(connection, arguments.user)
    await users.set_admin(connection, user_id, admin=True)
    _say(arguments, f"{arguments.user} is an administrator of this instance.", user_id)


async def _revoke(connection: Connection, arguments: Namespace) -> None:
    user_id = await _known(connection, arguments.user)
    await users.set_admin(connection, user_id, admin=False)
    _say(arguments, f"{arguments.user} is no administrator of this instance.", user_id)


ACTIONS: Actions = {
    "list": _list,
    "add": _add,
    "disable": _disable,
    "enable": _enable,
    "delete": _delete,
    "grant": _grant,
    "revoke": _revoke,
}


async def _known(connection: Connection, named: str) -> UUID:
    """By id or by e-mail. Raises ``AppError`` when there is no such account."""
    user_id = await user_named(connection, named)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1)", user_id):
        raise not_found("user", "List the accounts with 'innkeeper users list'.")
    return user_id


def _say(arguments: Namespace, sentence: str, user_id: UUID, **further: object) -> None:
    put(json.dumps({"user_id": str(user_id), **further}) if arguments.json else sentence)


def _shown(account: users.Account) -> dict[str, object]:
    return {
        "id": str(account.id),
        "email": account.email,
        "name": account.name,
        "created_at": account.created_at.isoformat(),
        "disabled_at": account.disabled_at.isoformat() if account.disabled_at else None,
        "admin_at": account.admin_at.isoformat() if account.admin_at else None,
        "projects": account.projects,
        "credentials": account.credentials,
    }
