"""a project that is deleted takes its objects in the store with it, by a job"""

from __future__ import annotations

from alembic import op

revision = "0123"
down_revision = "0122"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# By a trigger, so that no way of deleting a project can forget it. Where no store is set up there is nothing in it.
ERASE_OBJECTS = f"""
CREATE FUNCTION erase_objects() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF EXISTS (SELECT FROM files f WHERE f.project_id = OLD.id)
    OR EXISTS (SELECT FROM component_blobs b WHERE b.project_id = OLD.id)
  THEN
    PERFORM ops.add_job(NULL, NULL, NULL, NULL, 'objects_erase', jsonb_build_object('project_id', OLD.id),
      OLD.id::text, NULL, NULL);
  END IF;
  RETURN OLD;
END $$"""


def upgrade() -> None:
    op.execute(ERASE_OBJECTS)
    op.execute("REVOKE ALL ON FUNCTION erase_objects() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER projects_erase_objects BEFORE DELETE ON projects FOR EACH ROW EXECUTE FUNCTION erase_objects()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER projects_erase_objects ON projects")
    op.execute("DROP FUNCTION erase_objects()")
