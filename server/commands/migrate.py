"""``innkeeper migrate``: the schema of this version, and the two unprivileged roles where they are missing."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace

from server.commands.reading import read_settings
from server.databases import make_roles
from server.refusal import Refusal
from server.roles import connect, inspect, role_of
from server.schema import SchemaState, schema_state
from server.settings.house import DatabaseSettings
from server.terminal import put

OWNER = "DATABASE_OWNER_URL"


def run(arguments: Namespace) -> int:
    # Only the owner's URL counts here: the process that migrates needs no secret of the ones that serve.
    wanted = {name: value for name, value in os.environ.items() if name.startswith("DATABASE_")}
    settings = read_settings(environ=wanted, environment="development", required=(OWNER,)).database
    return asyncio.run(_migrate(settings, arguments.app_role, arguments.ops_role))


async def _migrate(settings: DatabaseSettings, app_role: str, ops_role: str) -> int:
    if settings.owner_url is None:
        raise RuntimeError("the owner's URL is required")
    owner_url = settings.owner_url.get_secret_value()
    app_password = ops_password = None
    if settings.url is not None:
        named, app_password = role_of(settings.url.get_secret_value())
        app_role = named or app_role
    if settings.ops_url is not None:
        named, ops_password = role_of(settings.ops_url.get_secret_value())
        ops_role = named or ops_role
    async with connect(owner_url, OWNER) as connection:
        facts = await inspect(connection)
    if facts.role in (app_role, ops_role):
        raise Refusal(f"{OWNER} and DATABASE_URL name the same role '{facts.role}': they must be two.")
    if schema_state(facts.revision) is SchemaState.newer:
        put(f"The database is at revision {facts.revision}, newer than this version: nothing to do.")
        return 0
    await make_roles(owner_url, OWNER, {app_role: app_password, ops_role: ops_password}, anew=False)
    revision = await _upgrade(owner_url, app_role, ops_role)
    put(f"The database is at revision {revision}; roles: {facts.role} (owner), {app_role}, {ops_role}.")
    return 0


async def _upgrade(owner_url: str, app_role: str, ops_role: str) -> str:
    from sqlalchemy.exc import DBAPIError

    from migrations.runner import upgrade

    try:
        return await upgrade(owner_url, app_role=app_role, ops_role=ops_role)
    except DBAPIError as error:
        raise Refusal(
            f"The migration failed and changed nothing: {error.orig}. Mend that (rights of the owner's role, disk "
            "space, locks) and run it again."
        ) from error
