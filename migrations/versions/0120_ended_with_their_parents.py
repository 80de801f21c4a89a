"""who cancels a run cancels the runs that it started, too"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0120"
down_revision = "0118"
branch_labels = None
depends_on = None

AS_CALLER = "SET search_path = pg_catalog, public"
SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# As migration 0041 has it, with the live runs that those have started, and so on down. It looks again until there are
# no more: what a run was starting while this waited for its row is seen only then.
STOPPED_ALONE: str = importlib.import_module("migrations.versions.0041_durable_runs").STOP_RUNS
STOP_RUNS = f"""
CREATE OR REPLACE FUNCTION stop_runs(p_project uuid, p_runs uuid[]) RETURNS integer LANGUAGE plpgsql VOLATILE
{AS_CALLER} AS $$
DECLARE
  found_run record;
  seen uuid[] := '{{}}';
BEGIN
  LOOP
    FOR found_run IN
      WITH RECURSIVE tree (id, root_id) AS (
        SELECT r.id, coalesce(r.root_id, r.id) FROM runs r
          WHERE r.project_id = p_project AND r.id = ANY (p_runs) AND r.status IN ('queued', 'running')
        UNION
        SELECT r.id, t.root_id FROM tree t JOIN runs r
          ON r.project_id = p_project AND r.root_id = t.root_id AND r.parent_id = t.id
      )
      SELECT r.id, r.status, r.last_seq, r.end_user_id, r.external_id, t.external_id AS thread
      FROM runs r JOIN threads t ON t.project_id = r.project_id AND t.id = r.thread_id
      WHERE r.project_id = p_project AND r.id IN (SELECT id FROM tree) AND r.id <> ALL (seen)
        AND r.status IN ('queued', 'running')
      ORDER BY r.id FOR UPDATE OF r
    LOOP
      seen := seen || found_run.id;
      IF found_run.status = 'running' THEN
        UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp())
          WHERE r.project_id = p_project AND r.id = found_run.id;
        PERFORM pg_notify('innkeeper_cancel', found_run.id::text);
      ELSE
        UPDATE runs r SET status = 'cancelled', outcome = '{{"type": "cancelled"}}', last_seq = found_run.last_seq + 1,
            cancel_requested_at = clock_timestamp(), ended_at = clock_timestamp()
          WHERE r.project_id = p_project AND r.id = found_run.id;
        INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
          VALUES (p_project, found_run.id, found_run.last_seq + 1, found_run.end_user_id,
            cancelled_event(found_run.thread, found_run.external_id));
        PERFORM pg_notify('innkeeper_runs', found_run.id::text);
      END IF;
    END LOOP;
    EXIT WHEN NOT FOUND;
  END LOOP;
  RETURN cardinality(seen);
END $$"""

# As migration 0090 has it. A run whose parent is being cancelled begins as one that is, too: whoever takes it ends it.
ADMITTED_ALONE: str = importlib.import_module("migrations.versions.0090_run_budgets").ADMIT_RUN
ADMIT_RUN = f"""
CREATE OR REPLACE FUNCTION admit_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  parent record;
  found record;
BEGIN
  IF NEW.parent_id IS NOT NULL THEN
    SELECT coalesce(r.root_id, r.id) AS root_id, r.cancel_requested_at INTO parent FROM runs r
      WHERE r.project_id = NEW.project_id AND r.id = NEW.parent_id FOR KEY SHARE;
    NEW.root_id := parent.root_id;
    NEW.cancel_requested_at := coalesce(NEW.cancel_requested_at, parent.cancel_requested_at);
  END IF;
  IF NEW.agent <> 'demo' AND EXISTS (SELECT FROM projects p WHERE p.id = NEW.project_id AND
      (p.monthly_messages IS NOT NULL OR p.monthly_usd IS NOT NULL OR NEW.end_user_id IS NOT NULL AND
       (p.end_user_monthly_messages IS NOT NULL OR p.end_user_monthly_usd IS NOT NULL))) THEN
    SELECT * INTO found FROM budget_used_up(NEW.project_id, NEW.end_user_id, NEW.id, false);
    IF found.which IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'IK402', MESSAGE = found.which, DETAIL = found.most::text;
    END IF;
  END IF;
  RETURN NEW;
END $$"""


def upgrade() -> None:
    op.execute(STOP_RUNS)
    op.execute(ADMIT_RUN)


def downgrade() -> None:
    for before in (ADMITTED_ALONE, STOPPED_ALONE):
        op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
