"""jobs: a worker with nothing due looks at no lane, and a table that comes and goes is vacuumed as it goes"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0031"
branch_labels = None
depends_on = None

# pgqueuer's own advice for its queue table (`pgq autovac`).
VACUUM = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_analyze_threshold": "500",
    "autovacuum_vacuum_cost_limit": "10000",
    "autovacuum_vacuum_cost_delay": "0",
    "fillfactor": "70",
}
# Every lane that has jobs is looked at for one that is due: thousands, when thousands of projects wait for a retry.
BEFORE = "  IF p_limit <= 0 THEN"
NOW = """  IF p_limit <= 0 OR NOT EXISTS (
    SELECT FROM unnest(p_kinds) AS k (kind) WHERE EXISTS (
      SELECT FROM ops.pgqueuer j
      WHERE j.entrypoint = k.kind AND j.status = 'queued' AND j.execute_after <= clock_timestamp())
  ) THEN"""
REPLACE = """
DO $do$
DECLARE
  definition text := pg_get_functiondef('ops.pick_jobs'::regproc);
BEGIN
  IF strpos(definition, $old${old}$old$) = 0 THEN
    RAISE EXCEPTION 'ops.pick_jobs is not what migration 0015 made';
  END IF;
  EXECUTE replace(definition, $old${old}$old$, $new${new}$new$);
END $do$"""


def upgrade() -> None:
    op.execute(f"ALTER TABLE ops.pgqueuer SET ({', '.join(f'{name} = {value}' for name, value in VACUUM.items())})")
    op.execute(REPLACE.format(old=BEFORE, new=NOW))


def downgrade() -> None:
    op.execute(REPLACE.format(old=NOW, new=BEFORE))
    op.execute(f"ALTER TABLE ops.pgqueuer RESET ({', '.join(VACUUM)})")
