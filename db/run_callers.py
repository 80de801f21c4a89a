"""Who started a run, as it is kept with the run: so that another process can go on with it as the same caller."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

from db.principal import Principal

if TYPE_CHECKING:
    import asyncpg


def rights_of(caller: Principal) -> str:
    """What of the caller has no column of its own, as JSON."""
    return json.dumps(
        {
            "project_id": str(caller.project_id) if caller.project_id else None,
            "project_ids": sorted(str(project) for project in caller.project_ids),
            "kind": caller.kind,
            "read_only": caller.read_only,
            "tools": None if caller.tools is None else sorted(caller.tools),
        }
    )


def caller_of(run: asyncpg.Record) -> Principal:
    """Of a row with ``credential_id``, ``user_id``, ``end_user_id``, ``scopes``, ``rights``, ``parent_id`` and
    ``depth``."""
    rights = run["rights"]
    bound, tools = rights.get("project_id"), rights.get("tools")
    return Principal(
        credential_id=run["credential_id"],
        user_id=run["user_id"],
        project_id=UUID(bound) if bound else None,
        end_user_id=run["end_user_id"],
        scopes=frozenset(run["scopes"]),
        kind=rights.get("kind", "secret"),
        read_only=rights.get("read_only", False),
        run_id=run["parent_id"],
        run_depth=run["depth"] - 1,
        tools=None if tools is None else frozenset(tools),
        project_ids=frozenset(UUID(project) for project in rights.get("project_ids", ())),
    )
