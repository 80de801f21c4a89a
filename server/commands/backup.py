"""``innkeeper backup FILE``: database, secrets and files in one archive, while Innkeeper may go on running."""

from __future__ import annotations

import asyncio
import os
import tempfile
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from db import operator_acts
from server.commands.reading import read_settings
from server.data_directory import DataDirectory, data_directory
from server.keyring import write_once
from server.owner import owned_database
from server.roles import connect
from server.settings import Settings
from server.stores import files_directory
from server.terminal import progress

ROOT_SECRET = "root_secret"  # noqa: S105  (a name)
PREVIOUS_ROOT_SECRET = "previous_root_secret"  # noqa: S105  (a name)
API_KEY = "api_key"


def run(arguments: Namespace) -> int:
    return asyncio.run(_backup(arguments))


def own_directory(settings: Settings, chosen: Path | None) -> DataDirectory | None:
    """The data directory, unless the settings name a database and nobody named a directory."""
    if settings.database.owner_url is not None and chosen is None:
        return None
    return data_directory(chosen or settings.house.data, os.environ)


async def _backup(arguments: Namespace) -> int:
    from db.backup import backup

    settings = read_settings(environment="development")
    say = progress()
    data = own_directory(settings, arguments.data)
    files = files_directory(settings, data.files if data is not None else None)
    async with owned_database(settings, arguments.data, say) as urls:
        with (
            nullcontext() if data is None else data.lock_roots(),
            tempfile.TemporaryDirectory(prefix="innkeeper-") as scratch,
        ):
            await backup(
                urls.owner or urls.app,
                arguments.file.absolute(),
                secret_files=_secrets(settings, data, Path(scratch)),
                files_dir=files if files is not None and files.is_dir() else None,
                progress=say,
            )
        async with connect(urls.owner or urls.app, "DATABASE_OWNER_URL") as owner:
            await operator_acts.note(owner, "backup:made", arguments.file.name)
    return 0


def _secrets(settings: Settings, data: DataDirectory | None, scratch: Path) -> dict[str, Path]:
    found = {}
    if data is not None:
        kept = {
            ROOT_SECRET: data.root_secret,
            PREVIOUS_ROOT_SECRET: data.previous_root_secret,
            API_KEY: data.api_key,
        }
        found = {name: path for name, path in kept.items() if path.exists()}
    if settings.house.root_secret is not None:
        found[ROOT_SECRET] = scratch / ROOT_SECRET
        write_once(found[ROOT_SECRET], settings.house.root_secret.get_secret_value() + "\n")
        # The data directory's own are not in use then.
        found.pop(PREVIOUS_ROOT_SECRET, None)
    if others := [other.get_secret_value() for other in settings.house.other_root_secrets]:
        found[PREVIOUS_ROOT_SECRET] = scratch / PREVIOUS_ROOT_SECRET
        write_once(found[PREVIOUS_ROOT_SECRET], "".join(f"{other}\n" for other in others))
    return found
