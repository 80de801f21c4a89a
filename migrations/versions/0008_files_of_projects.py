"""which of a caller's projects have files"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# For the list of resources, which goes over many projects: without a project chosen no policy shows their storage.
SIGNATURE = "projects_with_files(uuid[])"
PROJECTS_WITH_FILES = f"""
CREATE FUNCTION projects_with_files(p_projects uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE {SECURED} AS $$
  SELECT s.project_id FROM project_storage s JOIN project_members m ON m.project_id = s.project_id
  WHERE s.project_id = ANY (p_projects) AND s.files > 0 AND m.user_id = (SELECT acting_user())
    AND (SELECT coalesce(bound_project(), s.project_id)) = s.project_id
$$"""


def upgrade() -> None:
    op.execute(PROJECTS_WITH_FILES)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
