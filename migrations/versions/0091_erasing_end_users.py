"""erasing end users, and a job that names threads"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0091"
down_revision = "0090"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Everything of one end user, by who administers the project; false to everybody else, and when there is none. Most of
# it goes with the row of the end user. Of files the rows stay, without a word of theirs, until the job that knows the
# store has removed the bytes. What waits for an answer, or is answered again, belongs to credentials, not to projects.
ERASE_END_USER = f"""
CREATE FUNCTION erase_end_user(p_project uuid, p_end_user uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  theirs uuid[];
BEGIN
  IF administered_project() IS DISTINCT FROM p_project THEN
    RETURN false;
  END IF;
  PERFORM FROM end_users e WHERE e.project_id = p_project AND e.id = p_end_user FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  SELECT coalesce(array_agg(r.id), '{{}}') INTO theirs FROM runs r
    WHERE r.project_id = p_project AND r.end_user_id = p_end_user;
  PERFORM stop_runs(p_project, theirs);
  DELETE FROM approvals a
    WHERE a.project_id = p_project AND (a.end_user_id = p_end_user OR a.run_id = ANY (theirs));
  -- The keys of calls that a run makes begin with its id.
  DELETE FROM idempotency i WHERE i.project_id = p_project AND (
    split_part(i.key, ':', 1) = ANY (theirs::text[]) OR EXISTS (SELECT FROM credentials k
      WHERE k.id = i.credential_id AND k.project_id = p_project AND k.end_user_id = p_end_user));
  UPDATE files f SET status = 'deleting', end_user_id = NULL, path = f.id::text, metadata = '{{}}', updated_at = now()
    WHERE f.project_id = p_project AND f.end_user_id = p_end_user;
  DELETE FROM end_users e WHERE e.project_id = p_project AND e.id = p_end_user;
  RETURN true;
END $$"""

# The first answer in a thread is the moment to give it a name, unless it has one.
ASK_FOR_NAME = f"""
CREATE FUNCTION ask_for_name() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF EXISTS (SELECT FROM threads t WHERE t.project_id = NEW.project_id AND t.id = NEW.thread_id AND t.name IS NULL) THEN
    PERFORM ops.add_job(NEW.project_id, NEW.user_id, NEW.credential_id, NEW.end_user_id, 'name_thread',
      jsonb_build_object('thread_id', NEW.thread_id), NEW.thread_id::text, NULL, NULL);
  END IF;
  RETURN NULL;
END $$"""


def upgrade() -> None:
    op.execute(ERASE_END_USER)
    rls.allow("erase_end_user(uuid, uuid)")
    op.execute(ASK_FOR_NAME)
    op.execute("REVOKE ALL ON FUNCTION ask_for_name() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER runs_ask_for_name AFTER UPDATE OF ended_at ON runs FOR EACH ROW WHEN (OLD.ended_at IS NULL AND"
        " NEW.status = 'succeeded') EXECUTE FUNCTION ask_for_name()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER runs_ask_for_name ON runs")
    op.execute("DROP FUNCTION ask_for_name()")
    op.execute("DROP FUNCTION erase_end_user(uuid, uuid)")
