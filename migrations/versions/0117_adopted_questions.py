"""what a run asked may be answered with another key of the same person, or another token of the same end user"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0117"
down_revision = "0110"
branch_labels = None
depends_on = None

LIVE = "state IN ('pending', 'approved', 'denied') AND a.expires_at > now()"

# The question goes over to the credential that resumes, with whose rights the call is then made. What that credential
# itself asks in the same words gives way. An end user is the same person with whatever key they came; everybody else
# is the account.
SIGNATURE = "adopt_question(uuid)"
ADOPT = f"""
CREATE FUNCTION adopt_question(p_question uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  me uuid := acting_credential();
  theirs uuid := acting_end_user();
  asked approvals%ROWTYPE;
BEGIN
  SELECT a.* INTO asked FROM approvals a JOIN runs r ON r.id = a.run_id
    WHERE a.id = p_question AND a.through_run AND a.credential_id <> me AND a.{LIVE}
      AND r.project_id = writable_project()
      AND r.end_user_id IS NOT DISTINCT FROM theirs AND a.end_user_id IS NOT DISTINCT FROM theirs
      AND (theirs IS NOT NULL OR a.user_id = acting_user())
    FOR UPDATE OF a;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE approvals a SET state = 'expired'
    WHERE a.credential_id = me AND a.end_user_id IS NOT DISTINCT FROM theirs AND a.through_run
      AND a.tool = asked.tool AND a.arguments_digest = asked.arguments_digest
      AND a.state IN ('pending', 'approved', 'denied');
  UPDATE approvals a SET credential_id = me, user_id = acting_user() WHERE a.id = p_question;
  RETURN true;
END $$"""


def upgrade() -> None:
    op.execute(ADOPT)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
