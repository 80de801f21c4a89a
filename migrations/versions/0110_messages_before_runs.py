"""messages that a thread begins with, which are of no run"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0110"
down_revision = "0116"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("messages", "run_id", existing_type=sa.Uuid(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM messages WHERE run_id IS NULL")
    op.alter_column("messages", "run_id", existing_type=sa.Uuid(), nullable=False)
