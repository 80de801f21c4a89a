"""the audit log also says who was refused at signing in, which token was revoked, and which consent was taken back"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0116"
down_revision = "0115"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
OPERATOR = "'00000000-0000-0000-0000-000000000000'::uuid"
# The first id (UUIDv7) of the last hour.
AN_HOUR_AGO = (
    "(lpad(to_hex((extract(epoch FROM now() - interval '1 hour') * 1000)::bigint), 12, '0')"
    " || '00000000000000000000')::uuid"
)

# Of the account that the link, the identity or the address would have opened. Once an hour, for the log must not be
# flooded by whoever tries.
SIGNATURE = "note_sign_in_refused(bytea, uuid, text, text, text)"
NOTE_REFUSED = f"""
CREATE FUNCTION note_sign_in_refused(p_link bytea, p_identity uuid, p_address text, p_with text, p_why text)
RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  INSERT INTO audit (id, credential_id, user_id, action, target, detail, client)
    SELECT uuid7(), {OPERATOR}, u.id, 'sign_in:refused', p_with, p_why, 'sign-in page' FROM users u
    WHERE u.id = coalesce(
        (SELECT s.id FROM sign_in_links l JOIN users s ON s.email = l.address WHERE l.token_hash = p_link),
        (SELECT i.user_id FROM identities i WHERE i.id = p_identity),
        (SELECT s.id FROM users s WHERE s.email = p_address))
      AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action = 'sign_in:refused'
        AND a.id > {AN_HOUR_AGO})
$$"""

# As migration 0115 has it; an access token that is revoked alone is told to the log too.
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
    PERFORM pg_notify('innkeeper_revoked', 'token:' || found_credential::text);
    {{noted}}
  END IF;
END $$"""
NOTED = """INSERT INTO audit (id, credential_id, user_id, project_id, action, target)
      SELECT uuid7(), c.id, c.user_id, c.project_id, 'oauth:token_revoked', k.client_id
      FROM credentials c LEFT JOIN oauth_clients k ON k.id = c.client_id WHERE c.id = found_credential;"""

# As migration 0050 has it; a consent of which nothing came yet is taken back aloud as well.
FORGET = f"""
CREATE OR REPLACE FUNCTION forget_app(p_client uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  person uuid := acting_person();
  held uuid;
  known boolean := false;
  ended boolean := false;
BEGIN
  DELETE FROM oauth_codes WHERE user_id = person AND client_id = p_client AND credential_id IS NULL;
  DELETE FROM oauth_devices WHERE user_id = person AND client_id = p_client AND credential_id IS NULL;
  DELETE FROM oauth_consents WHERE user_id = person AND client_id = p_client;
  known := FOUND;
  FOR held IN SELECT id FROM credentials WHERE user_id = person AND client_id = p_client AND revoked_at IS NULL LOOP
    PERFORM end_grant(held, 'oauth:disconnected');
    ended := true;
  END LOOP;
  {{noted}}
  RETURN known OR ended;
END $$"""
FORGOTTEN = """IF known AND NOT ended THEN
    INSERT INTO audit (id, credential_id, user_id, action, target)
      SELECT uuid7(), acting_credential(), person, 'oauth:disconnected', k.client_id
      FROM oauth_clients k WHERE k.id = p_client;
  END IF;"""


def upgrade() -> None:
    op.execute(NOTE_REFUSED)
    rls.allow(SIGNATURE)
    op.execute(REVOKE.format(noted=NOTED))
    op.execute(FORGET.format(noted=FORGOTTEN))


def downgrade() -> None:
    op.execute(FORGET.format(noted=""))
    op.execute(REVOKE.format(noted=""))
    op.execute(f"DROP FUNCTION {SIGNATURE}")
