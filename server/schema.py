"""Which revision of the schema this version brings, and how a database compares with it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from enum import StrEnum
from pathlib import Path

import migrations
import server
from server.refusal import Refusal

_ASSIGNED = re.compile(r'^((?:down_)?revision) = (None|"[^"]+")$', re.MULTILINE)
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
    """Every revision this version knows, in the order they are run in. Read off the files, so that nothing heavy is
    imported; their numbers say nothing of the order."""
    folder = Path(str(migrations.__file__)).parent / "versions"
    following = dict(_link(path.read_text(encoding="utf-8")) for path in folder.glob("[0-9]*_*.py"))
    found: list[str] = []
    before: str | None = None
    while (revision := following.get(before)) is not None:
        found.append(revision)
        before = revision
    return found


def _link(source: str) -> tuple[str | None, str]:
    """The revision that a migration comes after, ``None`` for the first, and its own."""
    names = dict(_ASSIGNED.findall(source))
    return names["down_revision"].strip('"') if names["down_revision"] != "None" else None, names["revision"].strip('"')


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
