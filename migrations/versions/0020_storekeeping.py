"""storekeeping: which projects store files, page by page, and the files that are being deleted at hand"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import rls

revision = "0020"
down_revision = "0050"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. Ids only: where there are rows to compare with the store.
SIGNATURE = "projects_with_any_files(uuid, integer)"
PROJECTS_WITH_ANY_FILES = f"""
CREATE FUNCTION projects_with_any_files(p_after uuid, p_limit integer) RETURNS SETOF uuid LANGUAGE sql STABLE {SECURED}
AS $$
  SELECT s.project_id FROM project_storage s WHERE s.project_id > p_after ORDER BY s.project_id LIMIT p_limit
$$"""


def upgrade() -> None:
    op.create_index(
        "files_deleting_idx", "files", ["project_id", "id"], postgresql_where=sa.text("status = 'deleting'")
    )
    op.execute(PROJECTS_WITH_ANY_FILES)
    rls.allow(SIGNATURE, ops=True)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.drop_index("files_deleting_idx", "files")
