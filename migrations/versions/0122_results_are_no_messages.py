"""who answers the calls of a message that was paid for needs no budget for another one"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0122"
down_revision = "0121"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
BEFORE: str = importlib.import_module("migrations.versions.0121_started_in_other_projects").ADMIT_RUN

# As migration 0121 has it, but that input which does not end with a user's words (results of calls, answers to
# interrupts) is no message, for which only money counts. Whether that is true is seen before its first request, when
# what is new of it is stored.
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
