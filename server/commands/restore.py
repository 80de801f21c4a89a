"""``innkeeper restore FILE``: a backup into an empty data directory, or into an empty database of one's own."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from db import operator_acts
from server.commands.backup import own_directory
from server.commands.reading import read_settings
from server.data_directory import DatabaseUrls, DataDirectory
from server.databases import APP_ROLE, OPS_ROLE, bring_up_to_date, embedded, make_roles
from server.refusal import Refusal
from server.roles import connect, role_of
from server.settings import Settings
from server.stores import files_directory
from server.terminal import Progress, progress

if TYPE_CHECKING:
    from db.backup import Manifest

SECRETS = "secrets/"


def run(arguments: Namespace) -> int:
    return asyncio.run(_restore(arguments))


async def _restore(arguments: Namespace) -> int:
    from db.backup import restore, verify

    settings = read_settings(environment="development")
    say = progress()
    archive = arguments.file.absolute()
    manifest = verify(archive)
    data = own_directory(settings, arguments.data)
    async with AsyncExitStack() as stack:
        if data is None:
            folder = archive.with_name(archive.name + ".secrets")
            folder.mkdir(mode=0o700, exist_ok=True)
            urls, roles = await _named_database(settings)
        else:
            folder = data.root
            urls = await _own_database(stack, data, say)
            roles = {APP_ROLE: APP_ROLE, OPS_ROLE: OPS_ROLE}
        owner = urls.owner or urls.app
        await restore(
            archive,
            owner,
            secret_targets=_targets(manifest, folder),
            files_dir=files_directory(settings, data.files if data is not None else None),
            progress=say,
            force=arguments.force,
            roles=roles,
        )
        await bring_up_to_date(owner, "DATABASE_OWNER_URL", roles[APP_ROLE], roles[OPS_ROLE], say)
        async with connect(owner, "DATABASE_OWNER_URL") as connection:
            await operator_acts.note(connection, "backup:restored", archive.name)
    if data is None:
        say(
            f"restored; the secrets are in {folder}: set INNKEEPER_ROOT_SECRET to what root_secret holds, and "
            "INNKEEPER_OTHER_ROOT_SECRETS to what previous_root_secret holds, if it is there"
        )
    else:
        say(f"restored into {data.root}: start it with 'innkeeper up --data {data.root}'")
    return 0


async def _own_database(stack: AsyncExitStack, data: DataDirectory, say: Progress) -> DatabaseUrls:
    data.make()
    stack.enter_context(data.lock())
    return await stack.enter_async_context(embedded(data, say))


async def _named_database(settings: Settings) -> tuple[DatabaseUrls, dict[str, str]]:
    """The unprivileged roles go by the names that ``DATABASE_URL`` and ``DATABASE_OPS_URL`` give them."""
    database = settings.database
    if database.owner_url is None:
        raise RuntimeError("called with an owner")
    owner = database.owner_url.get_secret_value()
    app, app_password = role_of(database.url.get_secret_value()) if database.url else (None, None)
    ops, ops_password = role_of(database.ops_url.get_secret_value()) if database.ops_url else (None, None)
    roles = {APP_ROLE: app or APP_ROLE, OPS_ROLE: ops or OPS_ROLE}
    passwords = {roles[APP_ROLE]: app_password, roles[OPS_ROLE]: ops_password}
    await make_roles(owner, "DATABASE_OWNER_URL", passwords, anew=False)
    return DatabaseUrls(app=owner, ops=None, owner=owner), roles


def _targets(manifest: Manifest, folder: Path) -> dict[str, Path]:
    names = [name.removeprefix(SECRETS) for name in manifest.members if name.startswith(SECRETS)]
    if any(not name or "/" in name or name.startswith(".") for name in names):
        raise Refusal("The archive names a secret in a way that Innkeeper never does: use another copy of it.")
    return {name: folder / name for name in names}
