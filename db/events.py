"""The append-only log of runs: canonical AG-UI events, as the bytes that are sent, numbered from 1 in each run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

CHANNEL: Final = "innkeeper_runs"
"""Payload: ids of runs with new events, comma-separated, at most ``TOLD_AT_ONCE`` of them."""

TOLD_AT_ONCE: Final = 200
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one run, from number ``first`` on, and steps that ended with them, by name; fenced by the
    epoch of its lease. Either may be empty."""

    project_id: UUID
    run_id: UUID
    epoch: int
    first: int
    events: Sequence[bytes]
    steps: Sequence[tuple[str, bytes]] = ()

    @property
    def last(self) -> int:
        return self.first + len(self.events) - 1


@traced
async def append(
    connection: Connection, owner: UUID, batches: Sequence[Batch], *, tell: Iterable[UUID] = (), relaxed: bool = False
) -> dict[UUID, int | None]:
    """Append the batches of many runs at once; returns only the refused runs.

    None for a run whose lease is gone, else the last seq of its log: what came before this batch is missing, or the
    batch was written before. ``tell`` names the runs to wake other processes' readers for. ``relaxed``: the commit
    does not wait for the disk; right for deltas only.
    """
    event_runs: list[UUID] = []
    seqs: list[int] = []
    events: list[bytes] = []
    step_runs: list[UUID] = []
    names: list[str] = []
    values: list[bytes] = []
    # Whoever locks the rows of many runs does so in this order.
    batches = sorted(batches, key=lambda batch: batch.run_id)
    for batch in batches:
        event_runs += [batch.run_id] * len(batch.events)
        seqs += range(batch.first, batch.last + 1)
        events += batch.events
        for name, value in batch.steps:
            step_runs.append(batch.run_id)
            names.append(name)
            values.append(value)
    rows = await connection.fetch(
        "SELECT * FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        owner,
        [batch.project_id for batch in batches],
        [batch.run_id for batch in batches],
        [batch.epoch for batch in batches],
        [batch.first for batch in batches],
        [batch.last for batch in batches],
        *(event_runs, seqs, events, step_runs, names, values),
        ",".join(str(run) for run in tell),
        relaxed,
    )
    return {row["run_id"]: row["last_seq"] for row in rows}


@traced
async def whole(connection: Connection, project_id: UUID, run_id: UUID) -> list[bytes]:
    """Every event of a run, from the first on."""
    rows = await connection.fetch(
        "SELECT event FROM run_events WHERE project_id = $1 AND run_id = $2 ORDER BY seq", project_id, run_id
    )
    return [row["event"] for row in rows]


@traced
async def read(connection: Connection, project_id: UUID, run_id: UUID, after: int) -> list[tuple[int, bytes]]:
    """At most ``PAGE`` events with a number over ``after``, in order, as the caller may see them."""
    rows = await connection.fetch(
        "SELECT seq, event FROM run_events WHERE project_id = $1 AND run_id = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        project_id,
        run_id,
        after,
        PAGE,
    )
    return [(row["seq"], row["event"]) for row in rows]
