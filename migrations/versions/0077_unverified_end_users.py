"""for doctor: how many projects take anybody's word for who an end user is"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0077"
down_revision = "0091"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. A number alone.
SIGNATURE = "projects_believing_anybody()"
BELIEVING = f"""
CREATE FUNCTION {SIGNATURE} RETURNS bigint LANGUAGE sql STABLE {SECURED} AS $$
  SELECT count(*) FROM projects p WHERE p.user_keys_from_browsers
    OR EXISTS (SELECT FROM token_sources s WHERE s.project_id = p.id AND s.kind = 'none')
$$"""


def upgrade() -> None:
    op.execute(BELIEVING)
    rls.allow(SIGNATURE, ops=True)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
