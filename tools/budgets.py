"""Budgets: how much the runs of a project, and of each of its end users, may use in a month, and what they have used.

Both tools need what makes agents (``agents:read``, ``agents:write``), which no run is lent: no agent raises its own
budget.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from db import erasing, spending
from db.errors import not_found
from db.scopes import Scope
from tools.changes import wanted
from tools.contract import Caller, ProjectId, tool
from tools.roles import administered, readable
from tools.trust import Untrusted

if TYPE_CHECKING:
    from db.database import Connection

MONTHS: Final = 12
Messages: TypeAlias = Annotated[int, Field(ge=0, le=10**12)]
Dollars: TypeAlias = Annotated[float, Field(ge=0, le=10**9)]
Clearable: TypeAlias = Literal[
    "monthly_messages", "monthly_usd", "end_user_monthly_messages", "end_user_monthly_usd", "model_prices"
]


class Price(BaseModel):
    """US$ for a million tokens."""

    model_config = ConfigDict(extra="forbid")

    input: float = Field(ge=0, le=1_000_000)
    output: float = Field(ge=0, le=1_000_000)


ModelPrices: TypeAlias = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=200)], Price],
    Field(max_length=50, description="Of models without a published price, by the model's id; replaces all."),
]


class Month(BaseModel):
    month: date = Field(description="Its first day, in UTC.")
    messages: int
    usd: float
    requests: int = Field(description="To models.")
    unpriced_requests: int = Field(description="Of runs with a model whose price is unknown: usd is not all then.")
    input_tokens: int
    output_tokens: int


class Usage(BaseModel):
    """``months``: those in which anything was used, the newest first."""

    monthly_messages: int | None
    monthly_usd: float | None
    end_user_monthly_messages: int | None
    end_user_monthly_usd: float | None
    model_prices: Untrusted[dict[str, Any]]
    months: list[Month]


@tool(Scope.agents_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_usage(
    call: Caller,
    project_id: ProjectId,
    end_user_id: Annotated[UUID | None, Field(description="For theirs alone; from list_end_users.")] = None,
) -> Usage:
    """See what runs used in the last twelve months, and the budgets of a month."""
    async with call.transaction() as connection:
        await readable(connection, project_id)
        if end_user_id is not None and await erasing.fetch(connection, project_id, end_user_id) is None:
            raise not_found("end_user")
        return await _shown(connection, project_id, end_user_id or project_id)


@tool(Scope.agents_write, read_only=False, destructive=False, idempotent=True, open_world=False)
async def set_budgets(
    call: Caller,
    project_id: ProjectId,
    monthly_messages: Annotated[Messages | None, Field(description="Of all its runs together.")] = None,
    monthly_usd: Annotated[Dollars | None, Field(description="Of all its runs together.")] = None,
    end_user_monthly_messages: Annotated[Messages | None, Field(description="Of each end user.")] = None,
    end_user_monthly_usd: Annotated[Dollars | None, Field(description="Of each end user.")] = None,
    model_prices: ModelPrices | None = None,
    clear: Annotated[list[Clearable], Field(description="Budgets to lift.")] = [],  # noqa: B006  never changed
) -> Usage:
    """Set how much runs may use in a month, for runs from now on. Needs the role owner or admin."""
    prices = None if model_prices is None else {name: price.model_dump() for name, price in model_prices.items()}
    given: dict[str, Any] = {
        "monthly_messages": monthly_messages,
        "monthly_usd": _money(monthly_usd),
        "end_user_monthly_messages": end_user_monthly_messages,
        "end_user_monthly_usd": _money(end_user_monthly_usd),
        "model_prices": prices,
    }
    changes = wanted(given, clear, {"model_prices": {}}, "budget")
    async with call.transaction() as connection:
        await administered(connection, project_id)
        await spending.change(connection, project_id, changes)
        return await _shown(connection, project_id, project_id)


async def _shown(connection: Connection, project_id: UUID, subject: UUID) -> Usage:
    row = await spending.settings(connection, project_id)
    if row is None:
        raise not_found("project")
    months = await spending.months(connection, project_id, subject, MONTHS)
    return Usage(**row, months=[Month(**month) for month in months])


def _money(amount: float | None) -> Decimal | None:
    return None if amount is None else Decimal(str(amount))
