"""Where the database is and as whom: the embedded one, or the one that ``DATABASE_URL`` names."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from server.data_directory import DatabaseUrls, DataDirectory
from server.keyring import write_once
from server.refusal import Refusal
from server.roles import Facts, connect, inspect, role_exists, role_of, set_role, with_role
from server.schema import SchemaState, migrate_apart, schema_state
from server.settings.house import DatabaseSettings
from server.terminal import Progress

APP_ROLE = "innkeeper_app"
OPS_ROLE = "innkeeper_ops"
_log = logging.getLogger("innkeeper.database")


@asynccontextmanager
async def open_for_up(
    settings: DatabaseSettings, data: DataDirectory, progress: Progress, give_up: Callable[[], None]
) -> AsyncIterator[DatabaseUrls]:
    """A migrated database: embedded, kept running and stopped at the end, unless ``DATABASE_URL`` names one.
    ``give_up`` is called when the embedded one went away and cannot be started again."""
    if settings.url is not None:
        yield await _prepare_named(settings, data, progress)
        return
    async with embedded(data, progress, give_up) as urls:
        if urls.owner is None:
            raise RuntimeError("the embedded database has an owner")
        await bring_up_to_date(urls.owner, "the embedded database", APP_ROLE, OPS_ROLE, progress)
        yield urls


@asynccontextmanager
async def embedded(
    data: DataDirectory, progress: Progress, give_up: Callable[[], None] = lambda: None
) -> AsyncIterator[DatabaseUrls]:
    """The PostgreSQL of the data directory, started and stopped here, and kept running meanwhile (``kept``), of which
    the log tells."""
    from db.embedded import EmbeddedPostgres, kept

    cluster = await EmbeddedPostgres.start(data.root, progress=progress)
    try:
        async with kept(cluster, _log.warning, give_up):
            yield DatabaseUrls(cluster.app_url, cluster.ops_url, cluster.owner_url)
    finally:
        await cluster.stop()
        progress("PostgreSQL stopped")


async def bring_up_to_date(owner_url: str, variable: str, app_role: str, ops_role: str, progress: Progress) -> None:
    """Migrate when the schema is missing or behind."""
    async with connect(owner_url, variable) as connection:
        facts = await inspect(connection)
    if schema_state(facts.revision) in (SchemaState.absent, SchemaState.behind):
        progress("migrating the database")
        await migrate_apart(owner_url, app_role, ops_role)


async def require_servable(urls: DatabaseUrls, progress: Progress) -> Facts:
    """Refuse a role that row-level security does not hold, and a schema that is behind."""
    async with connect(urls.app, "DATABASE_URL") as connection:
        facts = await inspect(connection)
    faults = []
    if facts.privileged:
        faults.append(
            f"DATABASE_URL connects as '{facts.role}', which {_privilege(facts)}: row-level security would not hold. "
            "Use the application role that 'innkeeper migrate' makes."
        )
    state = schema_state(facts.revision)
    if state in (SchemaState.absent, SchemaState.behind):
        faults.append(
            f"The schema is {'missing' if state is SchemaState.absent else f'at {facts.revision}, too old'}: "
            "run 'innkeeper migrate' with DATABASE_OWNER_URL first."
        )
    if urls.ops is not None:
        async with connect(urls.ops, "DATABASE_OPS_URL") as connection:
            ops = await inspect(connection)
        if ops.privileged:
            faults.append(
                f"DATABASE_OPS_URL connects as '{ops.role}', which {_privilege(ops)}: use the ops role that "
                "'innkeeper migrate' makes."
            )
    if faults:
        raise Refusal(*faults)
    if state is SchemaState.newer:
        progress(f"the schema ({facts.revision}) is newer than this version, which works with it")
    return facts


async def make_roles(owner_url: str, variable: str, roles: dict[str, str | None], *, anew: bool) -> None:
    """Make the unprivileged roles. ``anew``: also set the passwords of those that exist."""
    async with connect(owner_url, variable) as connection:
        for role, password in roles.items():
            if anew or not await role_exists(connection, role):
                await set_role(connection, role, password)


async def _prepare_named(settings: DatabaseSettings, data: DataDirectory, progress: Progress) -> DatabaseUrls:
    if settings.url is None:
        raise RuntimeError("called with a URL")
    url = settings.url.get_secret_value()
    direct = settings.direct_url.get_secret_value() if settings.direct_url else None
    progress("connecting to the database of DATABASE_URL")
    async with connect(url, "DATABASE_URL") as connection:
        facts = await inspect(connection)
    if settings.owner_url is not None:
        return await _beside_owner(settings, url, direct, data, progress)
    if facts.revision is not None and not facts.privileged:
        raise Refusal(
            f"DATABASE_URL connects as '{facts.role}', which owns nothing: 'innkeeper up' also needs "
            "DATABASE_OWNER_URL to migrate and to make the first account. In production use 'innkeeper migrate' and "
            "'innkeeper serve'."
        )
    passwords = await _derived_roles(url, "DATABASE_URL", (APP_ROLE, OPS_ROLE), data)
    await bring_up_to_date(url, "DATABASE_URL", APP_ROLE, OPS_ROLE, progress)
    app = with_role(url, APP_ROLE, passwords[APP_ROLE])
    ops = with_role(url, OPS_ROLE, passwords[OPS_ROLE])
    return DatabaseUrls(app, ops, url, with_role(direct, APP_ROLE, passwords[APP_ROLE]) if direct else None)


async def _beside_owner(
    settings: DatabaseSettings, url: str, direct: str | None, data: DataDirectory, progress: Progress
) -> DatabaseUrls:
    """``DATABASE_URL`` is the application role; the ops role is named too, or made by us."""
    if settings.owner_url is None:
        raise RuntimeError("called with an owner")
    owner = settings.owner_url.get_secret_value()
    app_role, app_password = role_of(url)
    if settings.ops_url is not None:
        ops = settings.ops_url.get_secret_value()
    else:
        passwords = await _derived_roles(owner, "DATABASE_OWNER_URL", (OPS_ROLE,), data)
        ops = with_role(url, OPS_ROLE, passwords[OPS_ROLE])
    ops_role, ops_password = role_of(ops)
    app_role, ops_role = app_role or APP_ROLE, ops_role or OPS_ROLE
    await make_roles(owner, "DATABASE_OWNER_URL", {app_role: app_password, ops_role: ops_password}, anew=False)
    await bring_up_to_date(owner, "DATABASE_OWNER_URL", app_role, ops_role, progress)
    urls = DatabaseUrls(url, ops, owner, direct)
    await require_servable(urls, progress)
    return urls


async def _derived_roles(owner_url: str, variable: str, roles: tuple[str, ...], data: DataDirectory) -> dict[str, str]:
    """Roles whose passwords only this data directory knows; made at the first start, kept in a 0600 file."""
    if not data.database_roles.exists():
        async with connect(owner_url, variable) as connection:
            taken = [role for role in roles if await role_exists(connection, role)]
        if taken:
            raise Refusal(
                f"The role {' and '.join(taken)} exists already, made by another installation, and its password is not "
                f"in {data.database_roles}: set DATABASE_URL, DATABASE_OPS_URL and DATABASE_OWNER_URL to the three "
                "roles, or start with that installation's data directory."
            )
        write_once(data.database_roles, json.dumps({role: secrets.token_urlsafe(32) for role in roles}))
    passwords: dict[str, str] = json.loads(data.database_roles.read_text())
    await make_roles(owner_url, variable, {role: passwords[role] for role in roles}, anew=True)
    return passwords


def _privilege(facts: Facts) -> str:
    if facts.superuser:
        return "is a superuser"
    return "bypasses row-level security" if facts.bypasses_rls else "owns tables"
