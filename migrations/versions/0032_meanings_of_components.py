"""which projects have components whose meaning no embedding model has been asked for"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0032"
down_revision = "0011"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. Ids only.
SIGNATURE = "projects_without_meanings(text, uuid, integer)"
PROJECTS_WITHOUT_MEANINGS = f"""
CREATE FUNCTION projects_without_meanings(p_model text, p_after uuid, p_limit integer) RETURNS SETOF uuid
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT DISTINCT c.project_id FROM components c
  WHERE c.latest_id IS NOT NULL AND (c.embedding IS NULL OR c.embedding_model IS DISTINCT FROM p_model)
    AND (p_after IS NULL OR c.project_id > p_after)
  ORDER BY c.project_id LIMIT p_limit
$$"""


def upgrade() -> None:
    op.execute(PROJECTS_WITHOUT_MEANINGS)
    rls.allow(SIGNATURE, ops=True)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
