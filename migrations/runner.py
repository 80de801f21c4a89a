"""Runs the migrations. They expand before they contract, so the processes of the release before keep working.

``upgrade`` holds an advisory lock, so that any number of processes may call it at once: one migrates, the others wait
and find nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from migrations.rls import Roles

LOCK = 0x1221_4B33


async def upgrade(owner_url: str, *, app_role: str = "innkeeper_app", ops_role: str = "innkeeper_ops") -> str:
    """Bring the database to the newest revision and return it. ``owner_url``: a postgresql:// URL of the owner.

    The roles must exist. Everything happens in one transaction: a failure leaves the database as it was.
    """

    def work(connection: Connection, config: Config) -> None:
        command.upgrade(config, "head")

    return await _with_alembic(owner_url, work, app_role, ops_role)


async def check(owner_url: str) -> None:
    """What ``alembic check`` does: raise ``alembic.util.CommandError`` where the tables and the schema differ."""

    def work(connection: Connection, config: Config) -> None:
        command.check(config)

    await _with_alembic(owner_url, work, "innkeeper_app", "innkeeper_ops")


async def revise(owner_url: str, revision: str, message: str) -> None:
    """Write a new revision by comparing the tables with the database, as ``alembic revision --autogenerate``."""

    def work(connection: Connection, config: Config) -> None:
        command.revision(config, message, autogenerate=True, rev_id=revision)

    await _with_alembic(owner_url, work, "innkeeper_app", "innkeeper_ops")


async def _with_alembic(
    owner_url: str, work: Callable[[Connection, Config], None], app_role: str, ops_role: str
) -> str:
    def locked(connection: Connection) -> str:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        owner = connection.execute(text("SELECT current_user")).scalar_one()
        config = Config(attributes={"connection": connection, "roles": Roles(owner, app_role, ops_role)})
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        work(connection, config)
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return str(found or "")

    engine = create_async_engine(owner_url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(locked)
    finally:
        await engine.dispose()
