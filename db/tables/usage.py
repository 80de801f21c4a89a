"""The tables of limits and of what was used."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, Numeric, PrimaryKeyConstraint, text
from sqlmodel import Field, SQLModel

from db.columns import Timestamp, count, of_project, parent


class Budget(SQLModel, table=True):
    """The rate limit of a key or of a project: until when what was taken of it is paid for (:mod:`db.budgets`)."""

    __tablename__ = "budgets"

    subject: UUID = Field(primary_key=True)
    spent_until: datetime = Field(sa_column=Column(Timestamp, nullable=False, index=True))


class UsageMonth(SQLModel, table=True):
    """What a project, or one of its end users, has used in a month of UTC. ``subject``: the id of whichever it is.

    Kept by triggers on ``runs`` and by ``meter_run``. ``unpriced_requests``: answers of runs of which not every price
    is known, so that ``usd`` is not all of it.
    """

    __tablename__ = "usage_months"
    __table_args__ = (
        PrimaryKeyConstraint("project_id", "month", "subject"),
        of_project(),
        parent("end_users", "end_user_id"),
        Index(None, "project_id", "end_user_id"),
    )

    project_id: UUID
    month: date
    subject: UUID
    end_user_id: UUID | None = None
    messages: int = Field(sa_column=count(BigInteger))
    usd: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default=text("0")))
    requests: int = Field(sa_column=count(BigInteger))
    unpriced_requests: int = Field(sa_column=count(BigInteger))
    input_tokens: int = Field(sa_column=count(BigInteger))
    output_tokens: int = Field(sa_column=count(BigInteger))
