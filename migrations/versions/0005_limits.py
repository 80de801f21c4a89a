"""budgets: what keys and projects may still spend, leased to processes in slices"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. Leases at most p_want requests of the budget of p_subject, which refills with p_rate a second up to p_burst
# (the generic cell rate algorithm: one moment says everything). Nothing left: how many seconds until p_want are there.
# p_member names the user who spends when the subject is a project; both answers are NULL for a user who is no member,
# so nobody spends what is another's. p_want = 0 only asks that. No commit is awaited: a budget that is lost is full.
LEASE_BUDGET = f"""
CREATE FUNCTION lease_budget(
  p_subject uuid, p_member uuid, p_rate double precision, p_burst double precision, p_want integer,
  OUT granted integer, OUT wait double precision
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  spent timestamptz;
  moment timestamptz;
  owed double precision;
BEGIN
  IF p_member IS NOT NULL AND NOT EXISTS (
    SELECT FROM project_members m WHERE m.project_id = p_subject AND m.user_id = p_member
  ) THEN
    RETURN;
  END IF;
  granted := 0;
  wait := 0;
  IF p_want <= 0 THEN
    RETURN;
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  INSERT INTO budgets (subject, spent_until) VALUES (p_subject, clock_timestamp()) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    -- Who comes takes a few away that have long been full: the table holds subjects of the last day.
    DELETE FROM budgets WHERE subject IN (
      SELECT subject FROM budgets WHERE spent_until < clock_timestamp() - interval '1 day'
      ORDER BY spent_until LIMIT 10 FOR UPDATE SKIP LOCKED);
  END IF;
  SELECT b.spent_until INTO spent FROM budgets b WHERE b.subject = p_subject FOR UPDATE;
  moment := clock_timestamp();
  spent := greatest(spent, moment);
  owed := extract(epoch FROM spent - moment) * p_rate;
  granted := greatest(least(p_want, floor(p_burst - owed + 1e-6)), 0);
  IF granted > 0 THEN
    UPDATE budgets b SET spent_until = spent + make_interval(secs => granted / p_rate) WHERE b.subject = p_subject;
  ELSE
    wait := (owed + least(p_want, p_burst) - p_burst) / p_rate;
  END IF;
END $$"""
SIGNATURE = "lease_budget(uuid, uuid, double precision, double precision, integer)"


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("spent_until", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("budgets_pkey")),
    )
    op.create_index(op.f("budgets_spent_until_idx"), "budgets", ["spent_until"])
    # No role of the house reads or writes it, except through the function.
    rls.protect("budgets", select="false", insert="false", update="false", delete="false")
    op.execute(LEASE_BUDGET)
    rls.allow(SIGNATURE, ops=True)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.drop_table("budgets")
