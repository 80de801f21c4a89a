"""The database as an operator reaches it, for commands that are run beside the server or without one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from server.data_directory import DatabaseUrls, DataDirectory, data_directory
from server.databases import embedded
from server.refusal import Refusal
from server.roles import connect
from server.settings import Settings
from server.terminal import Progress

if TYPE_CHECKING:
    from server.roles import Connection


@asynccontextmanager
async def owned_database(settings: Settings, chosen: Path | None, progress: Progress) -> AsyncIterator[DatabaseUrls]:
    """With the owner's URL: ``DATABASE_OWNER_URL``'s; with ``chosen``, or without that variable, the data directory's.

    The data directory's database is the one the running ``up`` uses, or its cluster, started for the moment.
    """
    named = _named(settings)
    if named is not None and chosen is None:
        yield named
        return
    data = data_directory(chosen or settings.house.data, os.environ)
    if not data.root.is_dir():
        raise Refusal(
            f"There is no data directory {data.root}: name it with --data, or set DATABASE_OWNER_URL for a database "
            "of your own."
        )
    with data.try_lock() as free:
        if not free:
            yield _of_running(data)
        elif data.cluster.exists():
            async with embedded(data, progress) as urls:
                yield urls
        elif named is not None:
            yield named
        else:
            raise Refusal(
                f"There is no database in {data.root}: start 'innkeeper up' first, or set DATABASE_OWNER_URL for a "
                "database of your own."
            )


@asynccontextmanager
async def owner_connection(settings: Settings, chosen: Path | None, progress: Progress) -> AsyncIterator[Connection]:
    """A connection as the owner of what :func:`owned_database` reaches."""
    async with (
        owned_database(settings, chosen, progress) as urls,
        connect(urls.owner or urls.app, "DATABASE_OWNER_URL") as connection,
    ):
        yield connection


def _named(settings: Settings) -> DatabaseUrls | None:
    """What the settings name; without an application role the owner stands in, for commands that use only the owner."""
    database = settings.database
    if database.owner_url is None:
        return None
    owner = database.owner_url.get_secret_value()
    return DatabaseUrls(
        app=database.url.get_secret_value() if database.url else owner,
        ops=database.ops_url.get_secret_value() if database.ops_url else None,
        owner=owner,
    )


def _of_running(data: DataDirectory) -> DatabaseUrls:
    found = data.running_urls()
    if found is None:
        raise Refusal(f"The Innkeeper of {data.root} is starting or stopping: try again in a moment.")
    return found
