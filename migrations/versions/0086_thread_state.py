"""the state that a thread's client and agents share"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0086"
down_revision = "0092"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("threads", sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("threads", sa.Column("state_set_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("threads", "state_set_by")
    op.drop_column("threads", "state")
