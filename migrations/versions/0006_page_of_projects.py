"""a page of projects costs the same however many there are"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Policies hide from the planner how many rows a user has, and with some thousands it chose to read, check and sort all
# of them for a page. Ordered by the index it stops after the page. Not SECURITY DEFINER: row-level security decides.
SIGNATURE = "page_of_projects(uuid, uuid, uuid, integer)"
PAGE = """
CREATE FUNCTION page_of_projects(p_user uuid, p_only uuid, p_before uuid, p_limit integer)
RETURNS TABLE (id uuid, name text, role text, created_at timestamptz) LANGUAGE sql STABLE
SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
  SELECT m.project_id, p.name, m.role, p.created_at
  FROM public.project_members m
  CROSS JOIN LATERAL (SELECT q.name, q.created_at FROM public.projects q WHERE q.id = m.project_id OFFSET 0) p
  WHERE m.user_id = p_user
    AND (p_only IS NULL OR m.project_id = p_only)
    AND m.project_id < coalesce(p_before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
  ORDER BY m.user_id DESC, m.project_id DESC
  LIMIT p_limit
$$"""


def upgrade() -> None:
    op.execute(PAGE)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
