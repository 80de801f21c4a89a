"""tokens of end users: none is issued past the end of its key, and none makes processes forget what they know"""

from __future__ import annotations

from alembic import op

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"

# As in 0075. The key is held while its child is made, so that whoever revokes it meanwhile finds the child, too; and a
# credential that is there already is left alone, since every change of one is told to all processes.
ISSUE = f"""
CREATE OR REPLACE FUNCTION issue_end_user_token(
  p_key bytea, p_project uuid, p_issuer text, p_external text, p_known interval, p_scopes text[], p_until timestamptz,
  p_life interval, p_token bytea, p_end_user uuid, p_credential uuid,
  OUT outcome text, OUT whom uuid, OUT until timestamptz, OUT given text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  key record;
  held uuid;
BEGIN
  SELECT * INTO key FROM exchanging_key(p_key, p_project);
  PERFORM FROM credentials c WHERE c.id = key.id AND c.revoked_at IS NULL FOR SHARE;
  IF NOT FOUND THEN
    outcome := 'key';
    RETURN;
  END IF;
  given := CASE WHEN key.kind = 'publishable' THEN p_scopes
    ELSE ARRAY(SELECT s FROM unnest(p_scopes) s WHERE s = ANY (key.scopes)) END;
  until := least(now() + p_life, p_until, key.expires_at);
  IF until <= now() THEN
    outcome := 'expired';
    RETURN;
  END IF;
  IF p_known IS NULL THEN
    INSERT INTO end_users AS e (project_id, id, issuer, external_id)
      VALUES (key.project_id, p_end_user, p_issuer, p_external)
      ON CONFLICT (project_id, issuer, external_id) DO UPDATE SET seen_at = now() RETURNING e.id INTO whom;
  ELSE
    UPDATE end_users e SET seen_at = now()
      WHERE e.project_id = key.project_id AND e.issuer = p_issuer AND e.external_id = p_external
        AND e.seen_at > now() - p_known RETURNING e.id INTO whom;
    IF NOT FOUND THEN
      outcome := 'unknown';
      RETURN;
    END IF;
  END IF;
  -- The row of the end user is locked now, so nobody else makes the same credential at the same time.
  SELECT c.id INTO held FROM credentials c
    WHERE c.parent_id = key.id AND c.end_user_id = whom AND c.revoked_at IS NULL;
  IF NOT FOUND THEN
    held := p_credential;
    INSERT INTO credentials (id, kind, user_id, project_id, end_user_id, parent_id, hint, scopes, expires_at)
      VALUES (held, 'end_user', key.user_id, key.project_id, whom, key.id, '', p_scopes, key.expires_at);
  END IF;
  INSERT INTO end_user_tokens (token_hash, credential_id, scopes, expires_at) VALUES (p_token, held, given, until);
  outcome := 'issued';
END $$"""

# As in 0075. Only keys may name users, not what a person lends to an application; and who was here within the hour is
# found without a write.
NAME = f"""
CREATE OR REPLACE FUNCTION name_end_user(
  p_credential uuid, p_user uuid, p_project uuid, p_external text, p_end_user uuid,
  OUT outcome text, OUT whom uuid
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  key record;
  namespace text;
BEGIN
  SELECT c.kind, p.user_keys_from_browsers AS believed INTO key
    FROM credentials c JOIN users u ON u.id = c.user_id JOIN project_members m ON m.user_id = c.user_id
      JOIN projects p ON p.id = m.project_id
    WHERE c.id = p_credential AND c.user_id = p_user AND m.project_id = p_project AND c.end_user_id IS NULL
      AND (c.project_id IS NULL OR c.project_id = m.project_id)
      AND (c.project_ids IS NULL OR m.project_id = ANY (c.project_ids))
      AND m.role <> 'viewer' AND NOT c.read_only AND {LIVE};
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN;
  ELSIF key.kind <> 'secret' AND NOT (key.kind = 'publishable' AND key.believed) THEN
    outcome := 'not_believed';
    RETURN;
  END IF;
  namespace := CASE WHEN key.kind = 'publishable' THEN '~unverified' ELSE '' END;
  outcome := 'named';
  SELECT e.id INTO whom FROM end_users e
    WHERE e.project_id = p_project AND e.issuer = namespace AND e.external_id = p_external
      AND e.seen_at > now() - interval '1 hour';
  IF NOT FOUND THEN
    INSERT INTO end_users AS e (project_id, id, issuer, external_id)
      VALUES (p_project, p_end_user, namespace, p_external)
      ON CONFLICT (project_id, issuer, external_id) DO UPDATE SET seen_at = now() RETURNING e.id INTO whom;
  END IF;
END $$"""


def upgrade() -> None:
    op.execute(ISSUE)
    op.execute(NAME)


def downgrade() -> None:
    """What 0075 made does the same but for races and noise; it stays as it is now."""
