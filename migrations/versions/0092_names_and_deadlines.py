"""one job names all new threads of a project, and a run that waited for a process ends with the one that started it"""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic import op

revision = "0092"
down_revision = "0082"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

SHARE_DEADLINE = f"""
CREATE FUNCTION share_deadline() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  -- A parent that is gone bounds nothing: least() passes over NULL.
  NEW.deadline_at := least(NEW.deadline_at, (SELECT r.deadline_at FROM runs r
    WHERE r.project_id = NEW.project_id AND r.id = NEW.parent_id));
  RETURN NEW;
END $$"""

# Whoever ends a run neither waits for the job's row nor adds a job each: one that begins in a second or later will see
# this thread too.
BEFORE: str = importlib.import_module("migrations.versions.0091_erasing_end_users").ASK_FOR_NAME
ASK_FOR_NAME = f"""
CREATE OR REPLACE FUNCTION ask_for_name() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF EXISTS (SELECT FROM threads t WHERE t.project_id = NEW.project_id AND t.id = NEW.thread_id AND t.name IS NULL)
    AND NOT EXISTS (SELECT FROM ops.pgqueuer j WHERE j.dedupe_key = NEW.project_id || ' name_threads names'
      AND j.status = 'queued' AND j.execute_after > clock_timestamp() + interval '1 second')
  THEN
    PERFORM ops.add_job(NEW.project_id, NULL, NULL, NULL, 'name_threads', '{{}}', 'names',
      clock_timestamp() + interval '2 seconds', NULL);
  END IF;
  RETURN NULL;
END $$"""


def upgrade() -> None:
    op.execute(SHARE_DEADLINE)
    op.execute("REVOKE ALL ON FUNCTION share_deadline() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER runs_share_deadline BEFORE UPDATE OF deadline_at ON runs FOR EACH ROW"
        " WHEN (OLD.deadline_at IS NULL AND NEW.deadline_at IS NOT NULL AND NEW.parent_id IS NOT NULL)"
        " EXECUTE FUNCTION share_deadline()"
    )
    op.execute(ASK_FOR_NAME)
    op.create_index("threads_unnamed_idx", "threads", ["project_id", "id"], postgresql_where=sa.text("name IS NULL"))


def downgrade() -> None:
    op.drop_index("threads_unnamed_idx", "threads")
    op.execute(BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP TRIGGER runs_share_deadline ON runs")
    op.execute("DROP FUNCTION share_deadline()")
