"""The owner's connection, for commands that an operator runs beside the server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.data_directory import DataDirectory, data_directory
from server.databases import embedded
from server.refusal import Refusal
from server.settings import Settings
from server.terminal import Progress


@asynccontextmanager
async def owner_url(settings: Settings, chosen: Path | None, progress: Progress) -> AsyncIterator[str]:
    """The owner's URL: of ``DATABASE_OWNER_URL``, of the running ``up``, or of a cluster started for the moment."""
    if settings.database.owner_url is not None and chosen is None:
        yield settings.database.owner_url.get_secret_value()
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
        elif not data.cluster.exists():
            raise Refusal(
                f"There is no database in {data.root}: start 'innkeeper up' first, or set DATABASE_OWNER_URL for a "
                "database of your own."
            )
        else:
            async with embedded(data, progress) as urls:
                yield urls.owner or ""


def _of_running(data: DataDirectory) -> str:
    found = data.running_owner_url()
    if not found:
        raise Refusal(f"The Innkeeper of {data.root} is starting or stopping: try again in a moment.")
    return found
