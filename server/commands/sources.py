"""``innkeeper sources``: where registries are synced from, and the secrets that their webhooks are signed with."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from db import operator_acts
from db.registry_sync import SECRET
from server.commands.backup import own_directory
from server.commands.reading import read_settings
from server.owner import owner_connection
from server.refusal import Refusal
from server.roots import keyring_of
from server.terminal import note, progress, put, put_all
from server.vault import Vault

if TYPE_CHECKING:
    from server.roles import Connection

SHORTEST: Final = 16
PREFIX: Final = "whsec_"
"""Of secrets of Standard Webhooks; GitHub takes the whole text as it is."""


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    settings = read_settings(environment="development")
    async with owner_connection(settings, arguments.data, progress()) as connection:
        vault = Vault(keyring_of(settings.house, own_directory(settings, arguments.data)))
        await ACTIONS[arguments.action](connection, vault, arguments)
    return 0


async def _list(connection: Connection, _vault: Vault, arguments: Namespace) -> None:
    rows = await connection.fetch(
        "SELECT id, project_id, url, secret IS NOT NULL AS has_secret FROM registry_sources"
        " WHERE $1::uuid IS NULL OR project_id = $1 ORDER BY id",
        arguments.project,
    )
    if arguments.json:
        put(json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows]))
        return
    put_all(
        f"{row['id']}  project {row['project_id']}  {'secret' if row['has_secret'] else 'no secret'}  {row['url']}"
        for row in rows
    )


async def _secret(connection: Connection, vault: Vault, arguments: Namespace) -> None:
    """Make a secret, or take one from stdin; the one before is good no more."""
    project_id = await connection.fetchval("SELECT project_id FROM registry_sources WHERE id = $1", arguments.id)
    if project_id is None:
        raise Refusal(f"There is no source {arguments.id}: see 'innkeeper sources list'.")
    secret = _entered() if arguments.enter else new_secret()
    sealed = vault.seal(project_id, SECRET, secret, str(arguments.id))
    await connection.execute(
        "UPDATE registry_sources SET secret = $2, secret_at = now() WHERE id = $1", arguments.id, sealed
    )
    await operator_acts.note(connection, "source:secret", str(arguments.id), project_id=project_id)
    if arguments.enter:
        note(f"Webhooks of {arguments.id} have to be signed with that secret from now on.")
    elif arguments.json:
        put(json.dumps({"id": str(arguments.id), "secret": secret}))
    else:
        note(f"The secret of the webhooks of {arguments.id}. It is shown this once:")
        put(secret)


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _entered() -> str:
    secret = sys.stdin.readline().strip()
    if len(secret) < SHORTEST:
        raise Refusal(f"A secret has at least {SHORTEST} characters: write it to stdin, on one line.")
    return secret


def _plain(value: object) -> object:
    return value if isinstance(value, (str, bool)) else str(value)


ACTIONS: Mapping[str, Callable[[Connection, Vault, Namespace], Awaitable[None]]] = {"list": _list, "secret": _secret}
