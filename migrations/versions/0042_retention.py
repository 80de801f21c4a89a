"""retention: logs of runs become their messages after a day, threads go when their project says so"""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0042"
down_revision = "0032"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. Of up to p_limit runs that ended a day ago: what they came to is in their rows and messages. Says how many.
COMPACT_RUNS = f"""
CREATE FUNCTION compact_runs(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH due AS (
    SELECT r.project_id, r.id FROM runs r
    WHERE r.compacted_at IS NULL AND r.ended_at < now() - interval '24 hours'
    ORDER BY r.ended_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), events AS (
    DELETE FROM run_events e USING due d WHERE e.project_id = d.project_id AND e.run_id = d.id
  ), steps AS (
    DELETE FROM run_steps s USING due d WHERE s.project_id = d.project_id AND s.run_id = d.id
  ), compacted AS (
    UPDATE runs r SET compacted_at = now(), input = '{{}}' FROM due d
    WHERE r.project_id = d.project_id AND r.id = d.id RETURNING 1
  )
  SELECT count(*) FROM compacted
$$"""

# Ops. Up to p_limit threads that nothing was said in for as long as their project keeps them. Says how many.
EXPIRE_THREADS = f"""
CREATE FUNCTION expire_threads(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH gone AS (
    DELETE FROM threads WHERE (project_id, id) IN (
      SELECT t.project_id, t.id FROM threads t JOIN projects p ON p.id = t.project_id
      WHERE p.retention_days IS NOT NULL AND t.updated_at < now() - make_interval(days => p.retention_days)
        AND NOT EXISTS (SELECT FROM runs r WHERE r.project_id = t.project_id AND r.thread_id = t.id
          AND (r.status IN ('queued', 'running') OR r.ended_at > now() - make_interval(days => p.retention_days)))
      LIMIT p_limit)
    RETURNING 1
  )
  SELECT count(*) FROM gone
$$"""

# Where a run is, to who is of its project: everything else about it is read there, under the policies.
PROJECT_OF_RUN = f"""
CREATE FUNCTION project_of_run(p_run uuid) RETURNS uuid LANGUAGE sql STABLE {SECURED} AS $$
  SELECT r.project_id FROM runs r JOIN project_members m ON m.project_id = r.project_id
  WHERE r.id = p_run AND m.user_id = (SELECT acting_user())
    AND coalesce(r.project_id = ANY ((SELECT bound_projects())::uuid[]), true)
    AND ((SELECT acting_end_user()) IS NULL OR r.end_user_id = (SELECT acting_end_user()))
$$"""

# As in 0041. Without an owner the run waits for a process even where its thread is free, and processes are called: so a
# tool starts one in its own transaction. So many of a key may live at a time.
BEFORE: str = importlib.import_module("migrations.versions.0041_durable_runs").BEGIN_RUN
FREE = "outcome := CASE WHEN others IS NULL"
WAITS = """  IF p_owner IS NULL THEN
    IF (SELECT count(*) FROM runs r WHERE r.credential_id = p_credential AND r.status IN ('queued', 'running')) >= 200
    THEN
      outcome := 'too_many';
      RETURN;
    END IF;
    PERFORM pg_notify('innkeeper_waiting', '');
  END IF;
"""
BEGIN_RUN = (
    BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    .replace("  IF others IS NOT NULL THEN\n", f"{WAITS}  IF others IS NOT NULL THEN\n")
    .replace(FREE, "outcome := CASE WHEN p_owner IS NULL THEN 'queued' WHEN others IS NULL")
)


def upgrade() -> None:
    op.execute(BEGIN_RUN)
    op.create_index(
        "runs_live_idx", "runs", ["credential_id"], postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.add_column("runs", sa.Column("compacted_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.create_index("runs_ended_idx", "runs", ["ended_at"], postgresql_where=sa.text("compacted_at IS NULL"))
    op.create_index("runs_id_idx", "runs", ["id"])
    op.add_column("projects", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("projects_retention_days_positive"), "projects", "retention_days > 0")
    op.execute(COMPACT_RUNS)
    rls.allow("compact_runs(integer)", ops=True)
    op.execute(EXPIRE_THREADS)
    rls.allow("expire_threads(integer)", ops=True)
    op.execute(PROJECT_OF_RUN)
    rls.allow("project_of_run(uuid)")


def downgrade() -> None:
    for signature in ("project_of_run(uuid)", "expire_threads(integer)", "compact_runs(integer)"):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_constraint(op.f("projects_retention_days_positive"), "projects")
    op.drop_column("projects", "retention_days")
    op.drop_index("runs_id_idx", "runs")
    op.drop_index("runs_ended_idx", "runs")
    op.drop_column("runs", "compacted_at")
    op.drop_index("runs_live_idx", "runs")
    op.execute(BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
