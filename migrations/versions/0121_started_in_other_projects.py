"""runs that a run starts in another project are part of it, too: they share its limits and deadline, and end with it"""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic import op

from migrations import rls

revision = "0121"
down_revision = "0120"
branch_labels = None
depends_on = None

AS_CALLER = "SET search_path = pg_catalog, public"
SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
BEFORE = importlib.import_module("migrations.versions.0120_ended_with_their_parents")
BUDGETS = importlib.import_module("migrations.versions.0090_run_budgets")
DEADLINES = importlib.import_module("migrations.versions.0092_names_and_deadlines")

# As migration 0041 has it for each run. Runs as whoever calls it; whether the run was live.
STOP_RUN = f"""
CREATE FUNCTION stop_run(p_project uuid, p_run uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {AS_CALLER} AS $$
DECLARE
  found_run record;
BEGIN
  SELECT r.status, r.last_seq, r.end_user_id, r.external_id, t.external_id AS thread INTO found_run
    FROM runs r JOIN threads t ON t.project_id = r.project_id AND t.id = r.thread_id
    WHERE r.project_id = p_project AND r.id = p_run AND r.status IN ('queued', 'running') FOR UPDATE OF r;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF found_run.status = 'running' THEN
    UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp())
      WHERE r.project_id = p_project AND r.id = p_run;
    PERFORM pg_notify('innkeeper_cancel', p_run::text);
  ELSE
    UPDATE runs r SET status = 'cancelled', outcome = '{{"type": "cancelled"}}', last_seq = found_run.last_seq + 1,
        cancel_requested_at = clock_timestamp(), ended_at = clock_timestamp()
      WHERE r.project_id = p_project AND r.id = p_run;
    INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
      VALUES (p_project, p_run, found_run.last_seq + 1, found_run.end_user_id,
        cancelled_event(found_run.thread, found_run.external_id));
    PERFORM pg_notify('innkeeper_runs', p_run::text);
  END IF;
  RETURN true;
END $$"""

# The live runs that these runs have started, and so on down, in whatever projects; of runs that were asked to end only,
# so that nobody can end others with it. It looks again until there are no more: what a run was starting while this
# waited for its row is seen only then.
STOP_STARTED = f"""
CREATE FUNCTION stop_started(p_runs uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  started record;
  seen uuid[] := '{{}}';
BEGIN
  LOOP
    FOR started IN
      WITH RECURSIVE tree (id, root_id) AS (
        SELECT r.id, coalesce(r.root_id, r.id) FROM runs r
          WHERE r.id = ANY (p_runs) AND r.cancel_requested_at IS NOT NULL
        UNION
        SELECT r.id, t.root_id FROM tree t JOIN runs r ON r.root_id = t.root_id AND r.parent_id = t.id
      )
      SELECT r.project_id, r.id FROM tree t JOIN runs r ON r.id = t.id
      WHERE r.status IN ('queued', 'running') AND r.id <> ALL (p_runs) AND r.id <> ALL (seen) ORDER BY r.id
    LOOP
      seen := seen || started.id;
      PERFORM stop_run(started.project_id, started.id);
    END LOOP;
    EXIT WHEN NOT FOUND;
  END LOOP;
END $$"""

STOP_RUNS = f"""
CREATE OR REPLACE FUNCTION stop_runs(p_project uuid, p_runs uuid[]) RETURNS integer LANGUAGE plpgsql VOLATILE
{AS_CALLER} AS $$
DECLARE
  one uuid;
  stopped uuid[] := '{{}}';
BEGIN
  FOR one IN SELECT DISTINCT u.id FROM unnest(p_runs) AS u (id) ORDER BY u.id LOOP
    IF stop_run(p_project, one) THEN
      stopped := stopped || one;
    END IF;
  END LOOP;
  PERFORM stop_started(stopped);
  RETURN cardinality(stopped);
END $$"""

# As migration 0120 has it, wherever the parent is.
ADMIT_RUN = f"""
CREATE OR REPLACE FUNCTION admit_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  parent record;
  found record;
BEGIN
  IF NEW.parent_id IS NOT NULL THEN
    SELECT coalesce(r.root_id, r.id) AS root_id, r.cancel_requested_at, r.deadline_at INTO parent FROM runs r
      WHERE r.id = NEW.parent_id FOR KEY SHARE;
    NEW.root_id := parent.root_id;
    NEW.cancel_requested_at := coalesce(NEW.cancel_requested_at, parent.cancel_requested_at);
    NEW.deadline_at := CASE WHEN NEW.deadline_at IS NOT NULL THEN least(NEW.deadline_at, parent.deadline_at) END;
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

# As migration 0092 has it, wherever the parent is.
SHARE_DEADLINE = f"""
CREATE OR REPLACE FUNCTION share_deadline() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  -- A parent that is gone bounds nothing: least() passes over NULL.
  NEW.deadline_at := least(NEW.deadline_at, (SELECT r.deadline_at FROM runs r WHERE r.id = NEW.parent_id));
  RETURN NEW;
END $$"""

# As migration 0090 has it, wherever the runs of the tree are.
METER_RUN = f"""
CREATE OR REPLACE FUNCTION meter_run(
  p_owner uuid, p_project uuid, p_run uuid, p_epoch integer, p_limits text, p_requests integer, p_tool_calls integer,
  p_input bigint, p_output bigint, p_usd numeric, p_estimate numeric, OUT verdict text, OUT most numeric
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  me runs%ROWTYPE;
  tree uuid;
  level record;
BEGIN
  SELECT coalesce(r.root_id, r.id) INTO tree FROM runs r WHERE r.project_id = p_project AND r.id = p_run;
  -- A lock of its own: the rows of runs are written by many, in any order.
  PERFORM pg_advisory_xact_lock(hashtextextended(tree::text, 90));
  SELECT * INTO me FROM runs r WHERE r.project_id = p_project AND r.id = p_run AND r.status = 'running'
    AND r.lease_owner = p_owner AND r.lease_epoch = p_epoch FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    verdict := 'lost';
    RETURN;
  END IF;
  IF p_usd > me.metered_usd THEN
    PERFORM add_usage(p_project, me.end_user_id, 0, p_usd - me.metered_usd, 0, 0, 0, 0);
  END IF;
  -- The request that is asked for counts among the steps, so that two runs of a tree never make the last one both.
  UPDATE runs r SET limits = p_limits::jsonb, requests = p_requests + (p_estimate IS NOT NULL)::integer,
      tool_calls = p_tool_calls, input_tokens = p_input, output_tokens = p_output,
      metered_usd = greatest(p_usd, r.metered_usd), reserved_usd = NULL
    WHERE r.project_id = p_project AND r.id = p_run;
  IF p_estimate IS NULL THEN
    RETURN;
  END IF;
  FOR level IN
    WITH members AS (
      SELECT r.* FROM runs r WHERE r.id = tree OR r.root_id = tree
    )
    SELECT a.limits, sum(d.requests) AS steps, sum(d.tool_calls) AS calls,
      sum(d.input_tokens + d.output_tokens) AS tokens,
      sum(coalesce(d.cost_usd, d.metered_usd)) AS usd
    FROM members a JOIN members d ON d.id = a.id OR d.parent_id = a.id OR d.root_id = a.id
    WHERE a.id IN (p_run, me.parent_id, tree) GROUP BY a.id, a.limits
  LOOP
    most := CASE
      WHEN level.steps > (level.limits ->> 'steps')::numeric THEN (level.limits ->> 'steps')::numeric
      WHEN level.calls > (level.limits ->> 'tool_calls')::numeric THEN (level.limits ->> 'tool_calls')::numeric
      WHEN level.tokens >= (level.limits ->> 'tokens')::numeric THEN (level.limits ->> 'tokens')::numeric
      WHEN level.usd >= (level.limits ->> 'cost_usd')::numeric THEN (level.limits ->> 'cost_usd')::numeric END;
    IF most IS NOT NULL THEN
      verdict := CASE
        WHEN level.steps > (level.limits ->> 'steps')::numeric THEN 'steps'
        WHEN level.calls > (level.limits ->> 'tool_calls')::numeric THEN 'tool_calls'
        WHEN level.tokens >= (level.limits ->> 'tokens')::numeric THEN 'tokens' ELSE 'cost_usd' END;
      UPDATE runs r SET requests = p_requests WHERE r.project_id = p_project AND r.id = p_run;
      RETURN;
    END IF;
  END LOOP;
  IF me.agent = 'demo' THEN
    RETURN;
  END IF;
  -- Whose month is looked at next is held still until this is written down.
  PERFORM add_usage(p_project, me.end_user_id, 0, 0, 0, 0, 0, 0);
  SELECT b.which, b.most INTO verdict, most
    FROM budget_used_up(p_project, me.end_user_id, p_run,
      me.metered_messages > 0 OR NOT is_message(p_project, p_run)) b;
  IF verdict IS NOT NULL THEN
    UPDATE runs r SET requests = p_requests WHERE r.project_id = p_project AND r.id = p_run;
    RETURN;
  END IF;
  IF me.metered_messages = 0 AND is_message(p_project, p_run) THEN
    PERFORM add_usage(p_project, me.end_user_id, 1, 0, 0, 0, 0, 0);
  END IF;
  UPDATE runs r SET metered_messages = 1, reserved_usd = p_estimate WHERE r.project_id = p_project AND r.id = p_run;
END $$"""

NEW = {"stop_run(uuid, uuid)": STOP_RUN, "stop_started(uuid[])": STOP_STARTED}


def upgrade() -> None:
    for signature, function in NEW.items():
        op.execute(function)
        rls.allow(signature)
    for changed in (STOP_RUNS, ADMIT_RUN, SHARE_DEADLINE, METER_RUN):
        op.execute(changed)
    op.drop_index("runs_tree_idx", "runs")
    op.create_index("runs_tree_idx", "runs", ["root_id"], postgresql_where=sa.text("root_id IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("runs_tree_idx", "runs")
    op.create_index("runs_tree_idx", "runs", ["project_id", "root_id"], postgresql_where=sa.text("root_id IS NOT NULL"))
    for before in (BUDGETS.METER_RUN, DEADLINES.SHARE_DEADLINE, BEFORE.ADMIT_RUN, BEFORE.STOP_RUNS):
        op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    for signature in NEW:
        op.execute(f"DROP FUNCTION {signature}")
