"""A thread as ``/v1`` says it: ``Thread`` of npm @tambo-ai/typescript-sdk 0.96."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg


def moment(at: datetime) -> str:
    """As JavaScript writes it: its clients sort these as texts, among their own."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def thread(row: asyncpg.Record) -> dict[str, Any]:
    """``row``: of :mod:`db.conversations`. What is not there is left out."""
    said = {
        "id": str(row["id"]),
        "createdAt": moment(row["created_at"]),
        "updatedAt": moment(row["updated_at"]),
        "runStatus": _status(row["live_status"]),
        "currentRunId": _text(row["live_id"]),
        "lastCompletedRunId": _text(row["completed_id"]),
        "name": row["name"],
        "metadata": row["metadata"] or None,
        "userKey": row["user_key"],
        **_ended(row),
    }
    return {name: value for name, value in said.items() if value is not None}


def _status(live: str | None) -> str:
    if live is None:
        return "idle"
    return "streaming" if live == "running" else "waiting"


def _ended(row: asyncpg.Record) -> dict[str, Any]:
    """How its last run ended."""
    code = row["error_code"]
    return {
        "pendingToolCallIds": (row["outcome"] or {}).get("pendingToolCallIds") if row["live_id"] is None else None,
        "lastRunCancelled": True if row["ended_status"] == "cancelled" else None,
        "lastRunError": {"code": code, "message": f"The run ended with {code}."} if code else None,
    }


def _text(given: object) -> str | None:
    return None if given is None else str(given)
