"""``innkeeper clients``: OAuth clients and service accounts, from the operator's side."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from db.oauth import clients
from db.scopes import ALL_SCOPES
from server.commands.keys import uuid_of
from server.commands.owning import Actions, act
from server.oauth import redirects
from server.refusal import Refusal
from server.terminal import note, put, put_all

if TYPE_CHECKING:
    from server.roles import Connection


def run(arguments: Namespace) -> int:
    return asyncio.run(act(ACTIONS, arguments))


async def _create(connection: Connection, arguments: Namespace) -> None:
    for uri in arguments.redirect:
        redirects.check(uri)
    if arguments.service:
        if arguments.redirect or arguments.public or arguments.introspect:
            raise Refusal("--service stands alone: a service account has a secret and nobody to redirect.")
        project_id = uuid_of(arguments.service, "--service")
        client_id, secret = await clients.create_service(
            connection, arguments.name, project_id, arguments.scope or sorted(ALL_SCOPES)
        )
        _print(arguments, client_id, secret)
        return
    if arguments.public and arguments.introspect:
        raise Refusal("--introspect needs a secret: leave --public out.")
    if not (arguments.redirect or arguments.introspect):
        raise Refusal("Say what it is for: --redirect URI, --introspect, or --service PROJECT.")
    _print(
        arguments,
        *await clients.create(
            connection,
            arguments.name,
            redirect_uris=arguments.redirect,
            public=arguments.public,
            may_introspect=arguments.introspect,
        ),
    )


def _print(arguments: Namespace, client_id: str, secret: str | None) -> None:
    if arguments.json:
        put(json.dumps({"client_id": client_id, "client_secret": secret}))
        return
    put(client_id)
    if secret is not None:
        note("Its secret is shown this once:")
        put(secret)


async def _list(connection: Connection, arguments: Namespace) -> None:
    found = [
        {
            "client_id": row["client_id"],
            "name": row["name"],
            "redirect_uris": list(row["redirect_uris"]),
            "scopes": list(row["scopes"]),
            "project_id": str(row["project_id"]) if row["project_id"] else None,
            "may_introspect": row["may_introspect"],
            "used_at": row["used_at"].isoformat() if row["used_at"] else None,
        }
        for row in await clients.listed(connection)
    ]
    if arguments.json:
        put(json.dumps(found))
        return
    put_all(f"{one['client_id']}  {_purpose(one)}  {one['name']}" for one in found)


def _purpose(client: Mapping[str, Any]) -> str:
    if client["project_id"]:
        return f"service of {client['project_id']}"
    return " ".join(client["redirect_uris"]) or "introspects"


async def _delete(connection: Connection, arguments: Namespace) -> None:
    await clients.delete(connection, arguments.id)
    put(json.dumps({"deleted": arguments.id}) if arguments.json else f"Client {arguments.id} is gone.")


ACTIONS: Actions = {
    "create": _create,
    "list": _list,
    "delete": _delete,
}
