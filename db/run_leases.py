"""Who has a run: the leases of processes, and what another one goes on with. The SQL is in functions of migrations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from db.agents import DEMO, RunSettings, settings_of
from db.errors import not_found
from db.principal import Principal
from db.run_callers import caller_of
from db.spans import traced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from db.database import Connection


@dataclass(frozen=True, slots=True)
class Lease:
    """A run that this process still holds, and whether somebody asked for its end."""

    project_id: UUID
    run_id: UUID
    epoch: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this process has just taken: ids only. ``caller`` can read the rest of it, if its key still lives."""

    project_id: UUID
    run_id: UUID
    epoch: int
    caller: Principal


@dataclass(frozen=True, slots=True)
class Kept:
    """All there is of a run that another process began. ``steps``: what was finished; ``steps_until``: the number of
    the last event when its model last finished an answer; ``seconds``: how long it may still take; ``shares``: what it
    uses is counted in the database, as it is once a run has started others."""

    caller: Principal
    thread_id: UUID
    thread: str
    external_id: str
    agent: str
    input: str
    settings: RunSettings
    history: str
    steps: Mapping[str, bytes]
    steps_until: int
    seconds: float
    cancel: bool
    shares: bool


@traced
async def keep(connection: Connection, claim: Claim) -> Kept | None:
    """What is needed to go on with a claimed run, as its caller sees it; ``None`` when that sees nothing any more.

    Raises AppError ``agent_not_found`` when its agent was deleted: nobody else has what bounded the run.
    """
    row = await connection.fetchrow(
        "SELECT r.credential_id, r.user_id, r.end_user_id, r.scopes, r.rights, r.parent_id, r.depth, r.thread_id,"
        " r.external_id, r.agent, r.cancel_requested_at, r.input::text AS asked, t.external_id AS thread,"
        " to_jsonb(p)::text AS project, to_jsonb(a)::text AS agent_row,"
        " extract(epoch FROM r.deadline_at - clock_timestamp())::float8 AS seconds_left,"
        " r.limits <> '{}' AS shares,"
        " (SELECT coalesce(jsonb_agg(m.content ORDER BY m.position), '[]')::text FROM messages m"
        "  WHERE m.project_id = r.project_id AND m.thread_id = r.thread_id) AS history"
        " FROM runs r JOIN threads t ON t.project_id = r.project_id AND t.id = r.thread_id"
        " JOIN projects p ON p.id = r.project_id"
        " LEFT JOIN agents a ON a.project_id = r.project_id AND a.id = r.agent_id"
        " WHERE r.project_id = $1 AND r.id = $2",
        *(claim.project_id, claim.run_id),
    )
    if row is None:
        return None
    if row["agent_row"] is None and row["agent"] != DEMO:
        raise not_found(
            "agent", "It was deleted before this run had ended. Start a new one with an agent of list_agents."
        )
    steps = await connection.fetch(
        "SELECT name, value, seq FROM run_steps WHERE project_id = $1 AND run_id = $2",
        *(claim.project_id, claim.run_id),
    )
    return Kept(
        caller_of(row),
        row["thread_id"],
        row["thread"],
        row["external_id"],
        row["agent"],
        row["asked"],
        settings_of(json.loads(row["project"]), json.loads(row["agent_row"] or "null")),
        row["history"],
        {step["name"]: step["value"] for step in steps},
        max((step["seq"] for step in steps if step["name"].startswith("model:")), default=0),
        max(row["seconds_left"], 0.0),
        row["cancel_requested_at"] is not None,
        row["shares"],
    )


@traced
async def renew_leases(connection: Connection, owner: UUID, run_ids: Sequence[UUID], lease: timedelta) -> list[Lease]:
    """Ops. Those of the runs that ``owner`` still holds, their leases renewed."""
    rows = await connection.fetch("SELECT * FROM renew_leases($1, $2, $3)", owner, list(run_ids), lease)
    return [Lease(row["project_id"], row["run_id"], row["epoch"], row["cancel"]) for row in rows]


@traced
async def claim(connection: Connection, owner: UUID, lease: timedelta, limit: int) -> list[Claim]:
    """Ops. Take up to ``limit`` runs that a process left, and as many that wait for their turn."""
    rows = await connection.fetch("SELECT * FROM claim_runs($1, $2, $3)", owner, lease, limit)
    return [
        Claim(
            row["project_id"],
            row["run_id"],
            row["epoch"],
            Principal(row["credential_id"], row["user_id"], None, row["end_user_id"], frozenset()),
        )
        for row in rows
    ]


@traced
async def hand_over(connection: Connection, owner: UUID) -> int:
    """Ops. Offer every run of ``owner`` to other processes; returns how many there are."""
    return int(await connection.fetchval("SELECT hand_over_runs($1)", owner))
