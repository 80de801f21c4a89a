"""Migrations in both directions."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from migrations import runner
from tests.conftest import DatabaseUrls


async def test_every_migration_but_the_first_can_be_taken_back_and_made_again(urls: DatabaseUrls) -> None:
    def back_to_the_first(_connection: Connection, config: Config) -> None:
        command.downgrade(config, "0001")

    newest = await runner.upgrade(urls.owner)

    assert await runner._with_alembic(urls.owner, back_to_the_first, "innkeeper_app", "innkeeper_ops") == "0001"
    assert await runner.upgrade(urls.owner) == newest
    await runner.check(urls.owner)
