"""a run may hand its thread over to one that takes its place"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0124"
down_revision = "0123"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
BEFORE: str = importlib.import_module("migrations.versions.0122_results_are_no_messages").ADMIT_RUN

# As migration 0122 has it, but that a run which interrupts the one that starts it, in their thread, does not begin
# cancelled with it: it was started to go on in its place.
ADMIT_RUN = f"""
CREATE OR REPLACE FUNCTION admit_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  parent record;
  found record;
BEGIN
  IF NEW.parent_id IS NOT NULL THEN
    SELECT coalesce(r.root_id, r.id) AS root_id, r.deadline_at,
        CASE WHEN r.thread_id <> NEW.thread_id THEN r.cancel_requested_at END AS cancel_requested_at
      INTO parent FROM runs r WHERE r.id = NEW.parent_id FOR KEY SHARE;
    NEW.root_id := parent.root_id;
    NEW.cancel_requested_at := coalesce(NEW.cancel_requested_at, parent.cancel_requested_at);
    NEW.deadline_at := CASE WHEN NEW.deadline_at IS NOT NULL THEN least(NEW.deadline_at, parent.deadline_at) END;
  END IF;
  IF NEW.agent <> 'demo' AND EXISTS (SELECT FROM projects p WHERE p.id = NEW.project_id AND
      (p.monthly_messages IS NOT NULL OR p.monthly_usd IS NOT NULL OR NEW.end_user_id IS NOT NULL AND
       (p.end_user_monthly_messages IS NOT NULL OR p.end_user_monthly_usd IS NOT NULL))) THEN
    SELECT * INTO found FROM budget_used_up(NEW.project_id, NEW.end_user_id, NEW.id,
      NEW.input -> 'messages' -> -1 ->> 'role' IS DISTINCT FROM 'user');
    IF found.which IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'IK402', MESSAGE = found.which, DETAIL = found.most::text;
    END IF;
  END IF;
  RETURN NEW;
END $$"""


def upgrade() -> None:
    op.execute(ADMIT_RUN)


def downgrade() -> None:
    op.execute(BEFORE)
