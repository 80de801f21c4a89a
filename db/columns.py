"""Columns and constraints that tables are made of, so that all of them have the same kind of each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, CheckConstraint, Column, ForeignKeyConstraint, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlmodel import SQLModel

Timestamp = TIMESTAMP(timezone=True)
SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
}


def now() -> Column[datetime]:
    return Column(Timestamp, nullable=False, server_default=text("now()"))


def moment() -> Column[datetime]:
    return Column(Timestamp, nullable=True)


def json() -> Column[Any]:
    return Column(JSONB, nullable=False, server_default=text("'{}'::jsonb"))


def texts() -> Column[Any]:
    return Column(ARRAY(Text), nullable=False, server_default=text("'{}'::text[]"))


def count(kind: type[Integer] = Integer) -> Column[int]:
    return Column(kind, nullable=False, server_default=text("0"))


def words(default: str | None = None) -> Column[str]:
    return Column(Text, nullable=False, server_default=None if default is None else text(f"'{default}'"))


def one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def parent(table: str, *columns: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["project_id", *columns], [f"{table}.project_id", f"{table}.id"], ondelete="CASCADE")


def of_project() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE")
