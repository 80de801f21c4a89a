"""What ``innkeeper doctor`` says of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from db import job_queue
from server.finding import Finding

if TYPE_CHECKING:
    from server.roles import Connection

PATIENCE_SECONDS: Final = 30.0
"""For so long jobs may be due before it is asked where the workers are."""


async def job_findings(connection: Connection, *, served: bool) -> AsyncIterator[Finding]:
    """On a connection of the ops role. ``served``: somebody should be working; else ``innkeeper up`` will."""
    counts = await job_queue.counts(connection)
    workers = await job_queue.workers(connection)
    waiting = [count for count in counts if count.state == "queued"]
    queued, running, dead = (
        sum(count.jobs for count in counts if count.state == state) for state in ("queued", "running", "dead")
    )
    oldest = max((count.oldest for count in waiting), default=0.0)
    if not workers.alive and oldest > PATIENCE_SECONDS:
        seen = "never seen" if workers.last_seen is None else f"last seen {workers.last_seen:.0f} s ago"
        said = f"{queued} jobs wait, one for {oldest:.0f} s, and a worker was {seen}: start 'innkeeper worker'"
        yield Finding("jobs", "fault" if served else "note", said)
    else:
        alive = f"{workers.alive} worker{'' if workers.alive == 1 else 's'}"
        yield Finding("jobs", "ok", f"{alive}, {queued} jobs queued, {running} running")
    if dead:
        kinds = ", ".join(sorted({count.kind for count in counts if count.state == "dead"}))
        said = (
            f"{dead} jobs are dead ({kinds}): see 'innkeeper jobs list --state dead', mend, then 'innkeeper jobs retry'"
        )
        yield Finding("jobs", "warn", said)
