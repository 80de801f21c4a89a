"""whoever locks the rows of many runs does so in the order of their ids, whatever the plan: none waits in a circle"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0135"
down_revision = "0145"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
DURABLE = importlib.import_module("migrations.versions.0041_durable_runs")
RENEW_BEFORE: str = importlib.import_module("migrations.versions.0002_run_engine").RENEW_LEASES

# As migration 0002 has it.
RENEW_LEASES = f"""
CREATE OR REPLACE FUNCTION renew_leases(p_owner uuid, p_runs uuid[], p_lease interval)
RETURNS TABLE (project_id uuid, run_id uuid, epoch integer, cancel boolean) LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH held AS (
    SELECT r.project_id, r.id FROM runs r
    WHERE r.id = ANY (p_runs) AND r.lease_owner = p_owner AND r.status IN ('queued', 'running')
    ORDER BY r.id FOR NO KEY UPDATE
  )
  UPDATE runs r SET lease_expires_at = clock_timestamp() + p_lease FROM held h
  WHERE r.project_id = h.project_id AND r.id = h.id
  RETURNING r.project_id, r.id, r.lease_epoch, r.cancel_requested_at IS NOT NULL
$$"""

# As migration 0041 has it.
HAND_OVER_RUNS = f"""
CREATE OR REPLACE FUNCTION hand_over_runs(p_owner uuid) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH held AS (
    SELECT r.project_id, r.id FROM runs r WHERE r.lease_owner = p_owner AND r.status = 'running'
    ORDER BY r.id FOR NO KEY UPDATE
  ), offered AS (
    UPDATE runs r SET lease_expires_at = clock_timestamp() - interval '1 second' FROM held h
    WHERE r.project_id = h.project_id AND r.id = h.id RETURNING 1
  )
  SELECT count(*) FROM offered, LATERAL (SELECT pg_notify('innkeeper_waiting', '')) n
$$"""

# As migration 0041 has it; one row alone needs no order.
BEGINS = "  RETURN QUERY\n"
APPEND_EVENTS: str = DURABLE.APPEND_EVENTS.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace(
    BEGINS,
    f"""  IF cardinality(p_runs) > 1 THEN
    PERFORM FROM runs r WHERE r.id = ANY (p_runs) AND r.lease_owner = p_owner AND r.status = 'running'
      ORDER BY r.id FOR NO KEY UPDATE;
  END IF;
{BEGINS}""",
)


def upgrade() -> None:
    for ordered in (RENEW_LEASES, HAND_OVER_RUNS, APPEND_EVENTS):
        op.execute(ordered)


def downgrade() -> None:
    for before in (DURABLE.APPEND_EVENTS, DURABLE.HAND_OVER_RUNS, RENEW_BEFORE):
        op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
