"""Database roles: what a URL's role may do, and making the two unprivileged ones beside an owner.

``app`` serves requests and sees only what row-level security gives its caller; ``ops`` sees ids of leases and jobs.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg

from server.refusal import Refusal

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

OLDEST = 16
CONNECT_SECONDS = 5.0
SCRAM_ROUNDS = 4096


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as seen by one role. ``revision``: of the schema, ``None`` when there is none."""

    role: str
    database: str
    version: str
    superuser: bool
    bypasses_rls: bool
    creates_roles: bool
    owns_tables: bool
    revision: str | None

    @property
    def privileged(self) -> bool:
        """Whether row-level security would not hold against this role."""
        return self.superuser or self.bypasses_rls or self.owns_tables


@asynccontextmanager
async def connect(url: str, variable: str) -> AsyncIterator[Connection]:
    """A connection; every way to fail is a :class:`Refusal` that names ``variable``, never the password."""
    parts = urlsplit(url)
    where = f"{variable} ({parts.hostname or 'local socket'}{f':{parts.port}' if parts.port else ''})"
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=30)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise Refusal(f"{where} refuses the role '{parts.username}': check its name and password.") from None
    except asyncpg.InvalidCatalogNameError:
        raise Refusal(f"{where} has no database '{parts.path.strip('/')}': create it, or name another.") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = type(error).__name__ if isinstance(error, asyncpg.PostgresError) else "nothing answers as PostgreSQL"
        raise Refusal(f"{where} cannot be reached ({reason}): start the database, or correct the URL.") from None
    try:
        version = connection.get_server_version()
        if version.major < OLDEST:
            raise Refusal(
                f"{where} is PostgreSQL {_number(version)}, and Innkeeper needs {OLDEST} or later: "
                "upgrade it, or leave DATABASE_URL out and 'innkeeper up' starts its own."
            )
        # What is done on this connection goes into the audit log; a pooler in between keeps no setting of a session.
        await connection.execute("SELECT set_config('app.origin', $1, false)", _origin())
        yield connection
    finally:
        try:
            await connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


def _origin() -> str:
    """Who sits at this machine, for the audit log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{name}@{socket.gethostname()}".replace(" ", "")


async def inspect(connection: Connection) -> Facts:
    """What the connected role is and what the database holds."""
    row = await connection.fetchrow(
        """
        SELECT rolname, current_database() AS database, rolsuper, rolbypassrls, rolcreaterole,
               EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
                         AND pg_has_role(r.oid, c.relowner, 'USAGE')) AS owns,
               to_regclass('public.alembic_version') IS NOT NULL AS migrated
        FROM pg_roles r WHERE rolname = current_user"""
    )
    if row is None:
        raise RuntimeError("a connection always has a role")
    revision = None
    if row["migrated"]:
        readable = await connection.fetchval("SELECT has_table_privilege('public.alembic_version', 'SELECT')")
        revision = await connection.fetchval("SELECT version_num FROM alembic_version") if readable else None
    return Facts(
        role=row["rolname"],
        database=row["database"],
        version=_number(connection.get_server_version()),
        superuser=row["rolsuper"],
        bypasses_rls=row["rolbypassrls"],
        creates_roles=row["rolcreaterole"] or row["rolsuper"],
        owns_tables=row["owns"],
        revision=revision,
    )


def _number(version: asyncpg.types.ServerVersion) -> str:
    """asyncpg keeps the second number of PostgreSQL 10 and later as ``micro``."""
    return f"{version.major}.{version.micro if version.major >= 10 else version.minor}"


async def role_exists(connection: Connection, role: str) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role))


async def set_role(connection: Connection, role: str, password: str | None) -> None:
    """Make ``role`` an unprivileged login role with ``password`` (``None``: leave or have none). May be repeated."""
    kept = "LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT NOCREATEDB NOCREATEROLE NOREPLICATION"
    exists = await role_exists(connection, role)
    # SUPERUSER, BYPASSRLS and REPLICATION may be named in ALTER by superusers only.
    attributes = "LOGIN NOINHERIT" if exists else kept
    if password is not None:
        attributes += f" PASSWORD '{scram_verifier(password)}'"
    try:
        await connection.execute(f"{'ALTER' if exists else 'CREATE'} ROLE {quoted(role)} {attributes}")
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"GRANT CONNECT ON DATABASE {quoted(database)} TO {quoted(role)}")
    except asyncpg.InsufficientPrivilegeError:
        raise Refusal(
            f"The owner's role may not create the role '{role}': as an administrator of the database run "
            f"CREATE ROLE {quoted(role)} LOGIN NOINHERIT PASSWORD '...'; then try again."
        ) from None


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores for ``password`` (RFC 5802), so that the password itself is in no statement or log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ROUNDS}:{salt64}${stored64}:{server64}"


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def role_of(url: str) -> tuple[str | None, str | None]:
    """The role and the password that a URL names."""
    parts = urlsplit(url)
    return (
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


def with_role(url: str, role: str, password: str) -> str:
    """The same database, as another role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role, safe='')}:{quote(password, safe='')}@{host}"))
