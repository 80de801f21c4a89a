"""approvals may be decided by the answer to a run's interrupt"""

from __future__ import annotations

from alembic import op

revision = "0085"
down_revision = "0100"
branch_labels = None
depends_on = None

NAME = "approvals_decided_through_known"


def upgrade() -> None:
    op.drop_constraint(op.f(NAME), "approvals")
    op.create_check_constraint(op.f(NAME), "approvals", "decided_through IN ('elicitation', 'page', 'interrupt')")


def downgrade() -> None:
    op.execute("UPDATE approvals SET decided_through = 'elicitation' WHERE decided_through = 'interrupt'")
    op.drop_constraint(op.f(NAME), "approvals")
    op.create_check_constraint(op.f(NAME), "approvals", "decided_through IN ('elicitation', 'page')")
