"""Which revision of the schema this version brings, and how a database compares with it."""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path

import migrations
import server
from server.refusal import Refusal

_RUN = (
    "import sys; sys.path.append(sys.argv.pop(1)); from server.cli import main; "
    "raise SystemExit(main(['migrate', *sys.argv[1:]]))"
)


class SchemaState(StrEnum):
    """``newer``: migrated by a later version. Migrations expand before they contract, so this version works on it."""

    absent = "absent"
    behind = "behind"
    current = "current"
    newer = "newer"


def revisions() -> list[str]:
    """Every revision this version knows, oldest first; file names carry them, so nothing heavy is imported."""
    folder = Path(str(migrations.__file__)).parent / "versions"
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


def schema_state(revision: str | None) -> SchemaState:
    """How a database at ``revision`` compares with this version."""
    known = revisions()
    if revision is None:
        return SchemaState.absent
    if revision == known[-1]:
        return SchemaState.current
    return SchemaState.behind if revision in known else SchemaState.newer


async def migrate_apart(owner_url: str, app_role: str, ops_role: str) -> None:
    """Migrate in a process of its own, whose libraries and memory end with it. Raises :class:`Refusal`."""
    environment = os.environ | {
        "DATABASE_OWNER_URL": owner_url,
        "INNKEEPER_ENV": "development",
        "INNKEEPER_LOG_LEVEL": "warning",
    }
    environment.pop("DATABASE_URL", None)
    environment.pop("DATABASE_OPS_URL", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder called "server" where the user happens to stand must not be taken for ours
        "-c",
        _RUN,
        str(Path(str(server.__file__)).parent.parent),
        f"--app-role={app_role}",
        f"--ops-role={ops_role}",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        # One transaction: what is not finished is rolled back.
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise Refusal(f"The migration failed:\n{said.decode(errors='replace').strip()}")
