"""Alembic's environment. Run through ``migrations.runner``, which hands over an open connection and the roles."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import db.tables  # noqa: F401  (fills SQLModel.metadata)
from migrations.autogenerate import protect_new_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    compare_server_default=True,
    transaction_per_migration=False,
    process_revision_directives=protect_new_tables,
)
with context.begin_transaction():
    context.run_migrations()
