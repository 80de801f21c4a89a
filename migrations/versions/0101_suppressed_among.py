"""end users' mail, too, is held back from addresses that refused mail: which of some addresses are suppressed"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0101"
down_revision = "0083"
branch_labels = None
depends_on = None

# End users see no list of suppressions, but what they send must honour it.
SUPPRESSED_AMONG = """
CREATE FUNCTION suppressed_among(p_addresses text[]) RETURNS TABLE (address text, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT s.address, s.reason FROM suppressions s
  WHERE s.project_id = (SELECT readable_project()) AND s.address = ANY(p_addresses)
$$"""
SIGNATURE = "suppressed_among(text[])"


def upgrade() -> None:
    op.execute(SUPPRESSED_AMONG)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
