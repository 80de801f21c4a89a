"""What runs use, and how much they may: the limits that runs of one tree share, and the budgets of projects and their
end users, for a month each. The SQL itself is in migration 0090."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from db.agents import Limits
from db.errors import AppError
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

NO_BUDGET: Final = "IK402"
"""The SQLSTATE with which a run is refused that nobody has a budget for; its message says whose."""

Limit = Literal["steps", "tool_calls", "tokens", "cost_usd"]
SETTINGS: Final = (
    "monthly_messages",
    "monthly_usd",
    "end_user_monthly_messages",
    "end_user_monthly_usd",
    "model_prices",
)
_USED: Final = "month, messages, usd, requests, unpriced_requests, input_tokens, output_tokens"
_LIMITS: Final[dict[str, str]] = {
    "steps": "{most} steps",
    "tool_calls": "{most} calls of tools",
    "tokens": "{most} tokens",
    "cost_usd": "US$ {most}",
}
_PROJECTS: Final = " and the project's tool_call_limit with update_project"


@dataclass(frozen=True, slots=True)
class Used:
    """By one run so far. ``usd``: as far as prices are known."""

    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is used up, ``None`` when nothing is; "lost" when another process has the run. ``most``: how much of it
    there was."""

    of: str | None = None
    most: Decimal | None = None


@traced
async def meter(
    connection: Connection,
    owner: UUID,
    project_id: UUID,
    run_id: UUID,
    epoch: int,
    limits: Limits,
    used: Used,
    estimate: Decimal | None,
) -> Verdict:
    """Write down what a run has used, and decide whether it may ask its model once more, which may cost ``estimate``.
    Without an estimate nothing is decided. Any connection will do: the run's lease says who may."""
    given = {name: value for name, value in asdict(limits).items() if name != "seconds" and value is not None}
    row = await connection.fetchrow(
        "SELECT verdict, most FROM meter_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        *(owner, project_id, run_id, epoch, json.dumps(given), used.requests, used.tool_calls),
        *(used.input_tokens, used.output_tokens, used.usd, estimate),
    )
    return Verdict() if row is None else Verdict(row["verdict"], row["most"])


@traced
async def settings(connection: Connection, project_id: UUID) -> asyncpg.Record | None:
    """The budgets of a project, and the prices of models that only it knows."""
    return await connection.fetchrow(
        f"SELECT {', '.join(SETTINGS)} FROM projects WHERE id = $1",  # noqa: S608  fixed text
        project_id,
    )


@traced
async def change(connection: Connection, project_id: UUID, changes: dict[str, object]) -> bool:
    """``changes``: columns of ``SETTINGS``. False when the caller may not, or there is no such project."""
    names = [name for name in SETTINGS if name in changes]
    assignments = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 2))
    status = await connection.execute(
        f"UPDATE projects SET {assignments}, updated_at = now() WHERE id = $1",  # noqa: S608  known names
        *(project_id, *(changes[name] for name in names)),
    )
    return status == "UPDATE 1"


@traced
async def months(connection: Connection, project_id: UUID, subject: UUID, limit: int) -> list[asyncpg.Record]:
    """The last months in which ``subject``, the project or one of its end users, used anything; the newest first."""
    return await connection.fetch(
        f"SELECT {_USED} FROM usage_months WHERE project_id = $1 AND subject = $2 ORDER BY month DESC LIMIT $3",  # noqa: S608  fixed text
        *(project_id, subject, limit),
    )


def limit_reached(which: str, most: Decimal | float) -> AppError:
    """A limit of the run's agent, or of one that started it."""
    return AppError(
        "run_limit_reached",
        422,
        f"The run reached its limit of {_LIMITS[which].format(most=_plain(most))}, together with the runs it started.",
        "Ask for less at once, or have an administrator raise the agent's limits with update_agent (connect with"
        f" ?tools=agents){_PROJECTS if which == 'tool_calls' else ''}.",
    )


def budget_exceeded(which: str, most: Decimal | None) -> AppError:
    """``which``: one of :data:`Which`; ``most``: how much there was, ``None`` to whom that is not told."""
    amount = "" if most is None else f" of {_plain(most)} messages"
    if most is not None and which.endswith("usd"):
        amount = f" of US$ {_plain(most)}"
    whose = "This end user" if which.startswith("end_user") else "This project"
    raised = " An owner or admin can see it with get_usage and raise it with set_budgets (connect with ?tools=budgets)."
    return AppError(
        "budget_exceeded",
        402,
        f"{whose} has used up its budget{amount} for this month.",
        f"It starts anew with the next month (UTC).{'' if most is None else raised}",
    )


def _plain(most: Decimal | float) -> str:
    return f"{Decimal(str(most)).normalize():,f}"
