"""what a run's tools write is fenced by the run's lease, as its events are"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0100"
down_revision = "0060"
branch_labels = None
depends_on = None

# With ``p_ending`` in the same message as COMMIT, so nothing of the client's can come in between. The lock conflicts
# with that of whoever takes the run over or ends it, not with that of its events. A transaction that changed nothing
# needs no fence, and one whose run is gone has itself deleted it, for it was there at the beginning.
SIGNATURE = "require_lease(uuid, integer, boolean)"
REQUIRE_LEASE = """
CREATE FUNCTION require_lease(p_run uuid, p_epoch integer, p_ending boolean) RETURNS void LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  epoch integer;
  state text;
BEGIN
  IF p_ending THEN
    IF pg_current_xact_id_if_assigned() IS NULL THEN
      RETURN;
    END IF;
    SELECT r.lease_epoch, r.status INTO epoch, state FROM runs r WHERE r.id = p_run FOR KEY SHARE;
    IF NOT FOUND THEN
      RETURN;
    END IF;
  ELSE
    SELECT r.lease_epoch, r.status INTO epoch, state FROM runs r WHERE r.id = p_run;
  END IF;
  IF epoch IS DISTINCT FROM p_epoch OR state <> 'running' THEN
    RAISE EXCEPTION 'this process does not have the run' USING ERRCODE = 'IK002';
  END IF;
END $$"""


def upgrade() -> None:
    op.execute(REQUIRE_LEASE)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
