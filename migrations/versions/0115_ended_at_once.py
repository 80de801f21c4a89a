"""what a credential had open ends with it: its runs, and the streams of a token that is revoked alone"""

from __future__ import annotations

from alembic import op

revision = "0115"
down_revision = "0101"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# A run could not use a tool any more, but would go on to spend. Whoever else reads it sees that it was cancelled.
END_RUNS = f"""
CREATE FUNCTION end_runs_of_credential() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  PERFORM stop_runs(r.project_id, array_agg(r.id)) FROM runs r
    WHERE r.credential_id = NEW.id AND r.status IN ('queued', 'running') GROUP BY r.project_id;
  RETURN NULL;
END $$"""
TRIGGER = (
    "CREATE TRIGGER credentials_with_runs AFTER UPDATE OF revoked_at, expires_at ON credentials FOR EACH ROW"
    " WHEN (OLD.revoked_at IS NULL AND (NEW.revoked_at IS NOT NULL OR NEW.expires_at <= now()))"
    " EXECUTE FUNCTION end_runs_of_credential()"
)

# As migration 0050 has it. An access token that is revoked alone leaves its grant alive, and no process knows any more
# which streams were opened with it: all of the grant end, and those of its other tokens come back.
REVOKE = f"""
CREATE OR REPLACE FUNCTION revoke_token(p_token bytea, p_client uuid) RETURNS void LANGUAGE plpgsql VOLATILE {SECURED}
AS $$
DECLARE
  found_credential uuid;
BEGIN
  SELECT r.credential_id INTO found_credential FROM oauth_refresh_tokens r JOIN credentials c ON c.id = r.credential_id
    WHERE r.token_hash = p_token AND c.client_id = p_client;
  IF FOUND THEN
    PERFORM end_grant(found_credential, 'oauth:revoked');
    RETURN;
  END IF;
  DELETE FROM oauth_access_tokens t USING credentials c
    WHERE t.token_hash = p_token AND c.id = t.credential_id AND c.client_id = p_client
    RETURNING c.id INTO found_credential;
  IF FOUND THEN
    PERFORM pg_notify('innkeeper_revoked', '{{kind}}:' || found_credential::text);
  END IF;
END $$"""


def upgrade() -> None:
    op.execute(END_RUNS)
    op.execute("REVOKE ALL ON FUNCTION end_runs_of_credential() FROM PUBLIC")
    op.execute(TRIGGER)
    op.execute(REVOKE.format(kind="token"))


def downgrade() -> None:
    op.execute(REVOKE.format(kind="credential"))
    op.execute("DROP TRIGGER credentials_with_runs ON credentials")
    op.execute("DROP FUNCTION end_runs_of_credential()")
