"""Components that agents have shown, in the answers they are part of; and what their users made of them since: their
state. Each function takes a connection inside a caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.runs import LIVE
from db.spans import traced
from db.transcript import COMPONENTS, OURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.database import Connection

_KEPT: Final = f"m.content #> '{{metadata,{OURS},{COMPONENTS}}}'"
_THEIRS: Final = "t.project_id = $1 AND (t.external_id = $2 OR t.id::text = $2)"


@dataclass(frozen=True, slots=True)
class ShownComponent:
    """``kept``: what its answer has of it: ``name``, ``call``, ``stateSchema`` and ``state``, the last two if any.
    ``busy``: whether its thread has a run."""

    thread_id: UUID
    message_id: UUID
    kept: Mapping[str, Any]
    busy: bool


@traced
async def visible(connection: Connection, project_id: UUID, thread: str, component_id: str) -> bool:
    """Whether the caller sees this component in a thread, which is named by its id or by its client's name of it."""
    found: bool = await connection.fetchval(
        f"SELECT EXISTS (SELECT FROM threads t JOIN messages m ON m.project_id = t.project_id AND m.thread_id = t.id"  # noqa: S608  fixed text
        f" WHERE {_THEIRS} AND {_KEPT} ? $3)",
        *(project_id, thread, component_id),
    )
    return found


@traced
async def hold(connection: Connection, project_id: UUID, thread: str, component_id: str) -> ShownComponent | None:
    """Lock the thread, so that no run of it begins, and the answer that has the component; ``None`` when the caller may
    not write it."""
    thread_id = await connection.fetchval(
        f"SELECT t.id FROM threads t WHERE {_THEIRS} AND EXISTS (SELECT FROM messages m"  # noqa: S608  fixed text
        f" WHERE m.project_id = t.project_id AND m.thread_id = t.id AND {_KEPT} ? $3) LIMIT 1 FOR UPDATE",
        *(project_id, thread, component_id),
    )
    row = await connection.fetchrow(
        f"SELECT m.id, {_KEPT} -> $3 AS kept, EXISTS (SELECT FROM runs r WHERE r.project_id = $1 AND r.thread_id = $2"  # noqa: S608  fixed text
        f" AND r.status = ANY($4)) AS busy FROM messages m WHERE m.project_id = $1 AND m.thread_id = $2"
        f" AND {_KEPT} ? $3 FOR UPDATE",
        *(project_id, thread_id, component_id, list(LIVE)),
    )
    return None if row is None else ShownComponent(thread_id, row["id"], row["kept"], row["busy"])


@traced
async def keep_state(
    connection: Connection, project_id: UUID, message_id: UUID, component_id: str, state: Mapping[str, Any]
) -> None:
    """Keep the state of a shown component, with the message that shows it."""
    await connection.execute(
        "UPDATE messages SET content = jsonb_set(content, $3::text[], $4) WHERE project_id = $1 AND id = $2",
        *(project_id, message_id, ["metadata", OURS, COMPONENTS, component_id, "state"], state),
    )
