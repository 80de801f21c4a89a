"""the authorization server: clients, consents, codes, devices and tokens; credentials of several projects"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0050"
down_revision = "0010"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
SETTING = "nullif(current_setting('app.{}', true), '')::uuid"
CREDENTIAL, USER = (SETTING.format(name) for name in ("credential_id", "user_id"))
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"
ACTING = f"""
    FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.id = {CREDENTIAL} AND c.user_id = {USER} AND {LIVE}"""
BINDING = "CASE WHEN c.project_id IS NOT NULL THEN ARRAY[c.project_id] ELSE c.project_ids END"
BOUND_PROJECTS = f"""
CREATE FUNCTION bound_projects() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE {SECURED}
AS $$ BEGIN RETURN (SELECT {BINDING} {ACTING}); END $$"""

# Functions that hold a caller to the project of its credential, whatever else they do: they learn of several.
ONE = "(c.project_id IS NULL OR c.project_id = m.project_id)"
SEVERAL = f"{ONE} AND (c.project_ids IS NULL OR m.project_id = ANY (c.project_ids))"
IN_ONE = re.compile(r"\(SELECT coalesce\(bound_project\(\), (\w+\.\w+)\)\) = \1")
IN_SEVERAL = re.compile(r"coalesce\((\w+\.\w+) = ANY \(\(SELECT bound_projects\(\)\)::uuid\[\]\), true\)")

# A token of ours is a credential's own, or one of the short-lived ones of a credential that an OAuth client holds.
AUTHENTICATE = f"""
CREATE FUNCTION authenticate(presented bytea)
RETURNS TABLE (credential_id uuid, user_id uuid, project_id uuid, end_user_id uuid, kind text, scopes text[],
               read_only boolean, expires_at timestamptz, project_ids uuid[], audience text)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, c.scopes, c.read_only, c.expires_at, c.project_ids,
         c.audience
  FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.token_hash = presented AND {LIVE}
  UNION ALL
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, t.scopes, c.read_only, t.expires_at, c.project_ids,
         c.audience
  FROM oauth_access_tokens t JOIN credentials c ON c.id = t.credential_id JOIN users u ON u.id = c.user_id
  WHERE t.token_hash = presented AND t.expires_at > now() AND {LIVE}
$$"""
AUTHENTICATE_BEFORE = f"""
CREATE FUNCTION authenticate(presented bytea)
RETURNS TABLE (credential_id uuid, user_id uuid, project_id uuid, end_user_id uuid, kind text, scopes text[],
               read_only boolean, expires_at timestamptz)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, c.scopes, c.read_only, c.expires_at
  FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.token_hash = presented AND {LIVE}
$$"""
# RFC 9562, as db/ids.py makes them.
UUID7 = """
CREATE FUNCTION uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$"""

# Parts of the functions below; nobody else may call them.
CREATE_GRANT = """
CREATE FUNCTION create_grant(
  p_credential uuid, p_user uuid, p_client uuid, p_scopes text[], p_projects uuid[], p_read_only boolean,
  p_audience text
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
DECLARE
  single boolean := coalesce(cardinality(p_projects) = 1, false);
BEGIN
  INSERT INTO credentials (id, kind, user_id, client_id, project_id, project_ids, name, hint, scopes, read_only,
      audience)
    SELECT p_credential, 'oauth', u.id, k.id, CASE WHEN single THEN p_projects[1] END,
      CASE WHEN NOT single THEN p_projects END, k.name, '', p_scopes, p_read_only, p_audience
    FROM users u, oauth_clients k WHERE u.id = p_user AND u.disabled_at IS NULL AND k.id = p_client;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE oauth_clients SET used_at = now() WHERE id = p_client;
  INSERT INTO audit (id, credential_id, user_id, project_id, action, target)
    SELECT uuid7(), c.id, c.user_id, c.project_id, 'oauth:granted', k.client_id
    FROM credentials c JOIN oauth_clients k ON k.id = c.client_id WHERE c.id = p_credential;
  RETURN true;
END $$"""
END_GRANT = """
CREATE FUNCTION end_grant(p_credential uuid, p_why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
BEGIN
  UPDATE credentials SET revoked_at = now() WHERE id = p_credential AND revoked_at IS NULL;
  IF FOUND THEN
    INSERT INTO audit (id, credential_id, user_id, project_id, action, target)
      SELECT uuid7(), c.id, c.user_id, c.project_id, p_why, k.client_id
      FROM credentials c LEFT JOIN oauth_clients k ON k.id = c.client_id WHERE c.id = p_credential;
  END IF;
END $$"""
ISSUE = """
CREATE FUNCTION issue_tokens(
  p_credential uuid, p_scopes text[], p_access bytea, p_access_life interval, p_refresh bytea, p_refresh_life interval
) RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, public AS $$
  INSERT INTO oauth_access_tokens (token_hash, credential_id, scopes, expires_at)
    VALUES (p_access, p_credential, p_scopes, now() + p_access_life);
  INSERT INTO oauth_refresh_tokens (token_hash, credential_id, expires_at)
    SELECT p_refresh, p_credential, now() + p_refresh_life WHERE p_refresh IS NOT NULL;
$$"""
PARTS = {
    "create_grant(uuid, uuid, uuid, text[], uuid[], boolean, text)": CREATE_GRANT,
    "end_grant(uuid, text)": END_GRANT,
    "issue_tokens(uuid, text[], bytea, interval, bytea, interval)": ISSUE,
}

FIND_CLIENT = f"""
CREATE FUNCTION find_client(p_client_id text) RETURNS SETOF oauth_clients LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT * FROM oauth_clients WHERE client_id = p_client_id
$$"""
REGISTER_CLIENT = f"""
CREATE FUNCTION register_client(
  p_id uuid, p_client_id text, p_name text, p_uri text, p_redirect_uris text[], p_grant_types text[],
  p_auth_method text, p_secret bytea
) RETURNS timestamptz LANGUAGE sql VOLATILE {SECURED} AS $$
  INSERT INTO oauth_clients (id, client_id, kind, name, uri, redirect_uris, grant_types, auth_method, secret_hash)
    VALUES (p_id, p_client_id, 'dynamic', p_name, p_uri, p_redirect_uris, p_grant_types, p_auth_method, p_secret)
    RETURNING created_at
$$"""
# A client that describes itself at its client_id: what the document said last.
KEEP_DOCUMENT = f"""
CREATE FUNCTION keep_document(
  p_id uuid, p_client_id text, p_name text, p_uri text, p_redirect_uris text[], p_grant_types text[], p_life interval
) RETURNS SETOF oauth_clients LANGUAGE sql VOLATILE ROWS 1 {SECURED} AS $$
  INSERT INTO oauth_clients AS k (id, client_id, kind, name, uri, redirect_uris, grant_types, auth_method, fresh_until)
    VALUES (p_id, p_client_id, 'document', p_name, p_uri, p_redirect_uris, p_grant_types, 'none', now() + p_life)
    ON CONFLICT (client_id) DO UPDATE SET name = excluded.name, uri = excluded.uri,
      redirect_uris = excluded.redirect_uris, grant_types = excluded.grant_types, fresh_until = excluded.fresh_until
      WHERE k.kind = 'document'
    RETURNING *
$$"""

# What redeems a code names itself by it: 'granted', or why not. A second redemption ends what came of the first
# (RFC 6749 4.1.2).
REDEEM_CODE = f"""
CREATE FUNCTION redeem_code(
  p_code bytea, p_client uuid, p_redirect_uri text, p_challenge text, p_audience text, p_credential uuid,
  p_access bytea, p_access_life interval, p_refresh bytea, p_refresh_life interval,
  OUT outcome text, OUT scopes text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  code oauth_codes;
BEGIN
  SELECT * INTO code FROM oauth_codes WHERE code_hash = p_code AND client_id = p_client FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
  ELSIF code.credential_id IS NOT NULL THEN
    PERFORM end_grant(code.credential_id, 'oauth:code_replayed');
    outcome := 'replayed';
  ELSIF code.expires_at <= now() THEN
    outcome := 'expired';
  ELSIF code.redirect_uri <> p_redirect_uri THEN
    outcome := 'redirect_uri';
  ELSIF code.challenge <> p_challenge THEN
    outcome := 'verifier';
  ELSIF code.audience <> p_audience THEN
    outcome := 'audience';
  ELSIF NOT create_grant(p_credential, code.user_id, p_client, code.scopes, code.project_ids, code.read_only,
      code.audience) THEN
    outcome := 'unknown';
  ELSE
    UPDATE oauth_codes SET credential_id = p_credential WHERE code_hash = p_code;
    PERFORM issue_tokens(p_credential, code.scopes, p_access, p_access_life, p_refresh, p_refresh_life);
    outcome := 'granted';
    scopes := code.scopes;
  END IF;
END $$"""

# The successor of a refresh token is made of the token itself and a salt, so that all who present the same token get
# the same successor: an answer that was lost, or 50 requests at once, stay one lineage, though only hashes are kept.
# A token may be presented until its successor was first presented, and 60 seconds more; later it is a replay.
REFRESH = f"""
CREATE FUNCTION refresh_grant(
  p_token bytea, p_client uuid, p_scopes text[], p_audience text, p_salt bytea, p_successor bytea,
  p_refresh_life interval, p_access bytea, p_access_life interval,
  OUT outcome text, OUT salt bytea, OUT scopes text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  token oauth_refresh_tokens;
  held credentials;
  until timestamptz;
BEGIN
  SELECT * INTO token FROM oauth_refresh_tokens WHERE token_hash = p_token FOR UPDATE;
  SELECT c.* INTO held FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.id = token.credential_id AND c.client_id = p_client AND {LIVE};
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN;
  END IF;
  IF token.successor_hash IS NOT NULL THEN
    SELECT s.used_at + interval '60 seconds' INTO until FROM oauth_refresh_tokens s
      WHERE s.token_hash = token.successor_hash;
    IF until < now() THEN
      PERFORM end_grant(held.id, 'oauth:refresh_replayed');
      outcome := 'replayed';
      RETURN;
    END IF;
  END IF;
  scopes := coalesce(p_scopes, held.scopes);
  IF token.expires_at <= now() THEN
    outcome := 'expired';
  ELSIF held.audience <> p_audience THEN
    outcome := 'audience';
  ELSIF NOT scopes <@ held.scopes THEN
    outcome := 'scope';
  ELSE
    IF token.successor_hash IS NULL THEN
      UPDATE oauth_refresh_tokens r SET used_at = now(), salt = p_salt, successor_hash = p_successor
        WHERE r.token_hash = p_token;
      INSERT INTO oauth_refresh_tokens (token_hash, credential_id, expires_at)
        VALUES (p_successor, held.id, now() + p_refresh_life);
    END IF;
    PERFORM issue_tokens(held.id, scopes, p_access, p_access_life, NULL, NULL);
    salt := coalesce(token.salt, p_salt);
    outcome := 'granted';
  END IF;
END $$"""

# RFC 7009: a refresh token takes its grant along, an access token goes alone.
REVOKE = f"""
CREATE FUNCTION revoke_token(p_token bytea, p_client uuid) RETURNS void LANGUAGE plpgsql VOLATILE {SECURED} AS $$
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
    PERFORM pg_notify('innkeeper_revoked', 'credential:' || found_credential::text);
  END IF;
END $$"""

# RFC 7662, about tokens of the OAuth kind alone: keys are none of an introspecting client's business.
INTROSPECT = f"""
CREATE FUNCTION introspect_token(p_token bytea)
RETURNS TABLE (kind text, scopes text[], client_id text, user_id uuid, audience text, read_only boolean,
               created_at timestamptz, expires_at timestamptz)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT t.kind, t.scopes, k.client_id, c.user_id, c.audience, c.read_only, t.created_at, t.expires_at
  FROM (
    SELECT 'access' AS kind, a.credential_id, a.scopes, a.created_at, a.expires_at
      FROM oauth_access_tokens a WHERE a.token_hash = p_token
    UNION ALL
    SELECT 'refresh', r.credential_id, NULL, r.created_at, r.expires_at
      FROM oauth_refresh_tokens r WHERE r.token_hash = p_token AND r.successor_hash IS NULL
  ) t JOIN credentials c ON c.id = t.credential_id JOIN users u ON u.id = c.user_id
    JOIN oauth_clients k ON k.id = c.client_id
  WHERE t.expires_at > now() AND {LIVE}
$$"""

START_DEVICE = f"""
CREATE FUNCTION start_device(
  p_device bytea, p_user_code bytea, p_client uuid, p_scopes text[], p_audience text, p_life interval
) RETURNS boolean LANGUAGE sql VOLATILE {SECURED} AS $$
  INSERT INTO oauth_devices (device_hash, user_code_hash, client_id, scopes, audience, expires_at)
    VALUES (p_device, p_user_code, p_client, p_scopes, p_audience, now() + p_life)
    ON CONFLICT DO NOTHING RETURNING true
$$"""
FIND_DEVICE = f"""
CREATE FUNCTION find_device(p_user_code bytea)
RETURNS TABLE (client_id text, scopes text[], audience text, expires_at timestamptz)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT k.client_id, d.scopes, d.audience, d.expires_at
  FROM oauth_devices d JOIN oauth_clients k ON k.id = d.client_id
  WHERE d.user_code_hash = p_user_code AND d.state = 'pending' AND d.expires_at > now()
    AND acting_person() IS NOT NULL
$$"""
DECIDE_DEVICE = f"""
CREATE FUNCTION decide_device(
  p_user_code bytea, p_state text, p_scopes text[], p_projects uuid[], p_read_only boolean
) RETURNS boolean LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE oauth_devices SET state = p_state, user_id = acting_person(), scopes = p_scopes, project_ids = p_projects,
    read_only = p_read_only
  WHERE user_code_hash = p_user_code AND state = 'pending' AND expires_at > now() AND acting_person() IS NOT NULL
    AND p_state IN ('approved', 'denied')
  RETURNING true
$$"""
# RFC 8628 3.5: who asks faster than the interval is told to slow down, and then has to.
POLL_DEVICE = f"""
CREATE FUNCTION poll_device(
  p_device bytea, p_client uuid, p_credential uuid, p_access bytea, p_access_life interval, p_refresh bytea,
  p_refresh_life interval, OUT outcome text, OUT scopes text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  device oauth_devices;
BEGIN
  SELECT * INTO device FROM oauth_devices WHERE device_hash = p_device AND client_id = p_client FOR UPDATE;
  IF NOT FOUND OR device.credential_id IS NOT NULL THEN
    outcome := 'unknown';
  ELSIF device.expires_at <= now() THEN
    outcome := 'expired';
  ELSIF device.state = 'denied' THEN
    outcome := 'denied';
  ELSIF device.polled_at + make_interval(secs => device.interval_seconds) > now() THEN
    UPDATE oauth_devices SET interval_seconds = interval_seconds + 5, polled_at = now() WHERE device_hash = p_device;
    outcome := 'slow_down';
  ELSIF device.state = 'pending' THEN
    UPDATE oauth_devices SET polled_at = now() WHERE device_hash = p_device;
    outcome := 'pending';
  ELSIF NOT create_grant(p_credential, device.user_id, p_client, device.scopes, device.project_ids, device.read_only,
      device.audience) THEN
    outcome := 'unknown';
  ELSE
    UPDATE oauth_devices SET credential_id = p_credential WHERE device_hash = p_device;
    PERFORM issue_tokens(p_credential, device.scopes, p_access, p_access_life, p_refresh, p_refresh_life);
    outcome := 'granted';
    scopes := device.scopes;
  END IF;
END $$"""

# RFC 6749 4.4: a service account is a client that acts as a user of its own, with one credential for all its tokens.
SERVE = f"""
CREATE FUNCTION issue_to_service(
  p_client uuid, p_scopes text[], p_audience text, p_credential uuid, p_access bytea, p_access_life interval,
  OUT outcome text, OUT scopes text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  service oauth_clients;
  held uuid;
BEGIN
  SELECT * INTO service FROM oauth_clients WHERE id = p_client AND user_id IS NOT NULL FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN;
  END IF;
  scopes := coalesce(p_scopes, service.scopes);
  IF NOT scopes <@ service.scopes THEN
    outcome := 'scope';
    RETURN;
  END IF;
  SELECT c.id INTO held FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.client_id = p_client AND c.user_id = service.user_id AND c.audience = p_audience
      AND c.scopes = service.scopes AND {LIVE};
  IF NOT FOUND THEN
    held := p_credential;
    IF NOT create_grant(held, service.user_id, p_client, service.scopes,
        CASE WHEN service.project_id IS NOT NULL THEN ARRAY[service.project_id] END, false, p_audience) THEN
      outcome := 'unknown';
      RETURN;
    END IF;
  END IF;
  PERFORM issue_tokens(held, scopes, p_access, p_access_life, NULL, NULL);
  outcome := 'granted';
END $$"""

# What a person takes back from an application: every grant, what was about to become one, and the memory of consent.
FORGET_APP = f"""
CREATE FUNCTION forget_app(p_client uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  person uuid := acting_person();
  held uuid;
  known boolean := false;
BEGIN
  DELETE FROM oauth_codes WHERE user_id = person AND client_id = p_client AND credential_id IS NULL;
  DELETE FROM oauth_devices WHERE user_id = person AND client_id = p_client AND credential_id IS NULL;
  DELETE FROM oauth_consents WHERE user_id = person AND client_id = p_client;
  known := FOUND;
  FOR held IN SELECT id FROM credentials WHERE user_id = person AND client_id = p_client AND revoked_at IS NULL LOOP
    PERFORM end_grant(held, 'oauth:disconnected');
    known := true;
  END LOOP;
  RETURN known;
END $$"""

# Ops. Tokens, codes and devices that have expired; salts that no token may need any more; grants that nothing can use;
# clients that registered themselves and were not used for a day, or by nobody for 90 days.
CLEAN_UP = f"""
CREATE FUNCTION clean_up_oauth(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH access AS (
    DELETE FROM oauth_access_tokens WHERE token_hash IN (
      SELECT token_hash FROM oauth_access_tokens WHERE expires_at < now() LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), refresh AS (
    DELETE FROM oauth_refresh_tokens WHERE token_hash IN (
      SELECT token_hash FROM oauth_refresh_tokens WHERE expires_at < now() - interval '1 day' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), salts AS (
    UPDATE oauth_refresh_tokens SET salt = NULL WHERE token_hash IN (
      SELECT r.token_hash FROM oauth_refresh_tokens r JOIN oauth_refresh_tokens s ON s.token_hash = r.successor_hash
      WHERE r.salt IS NOT NULL AND s.used_at < now() - interval '2 minutes' LIMIT p_limit FOR UPDATE OF r SKIP LOCKED)
    RETURNING 1
  ), codes AS (
    DELETE FROM oauth_codes WHERE code_hash IN (
      SELECT code_hash FROM oauth_codes WHERE expires_at < now() - interval '1 day' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), devices AS (
    DELETE FROM oauth_devices WHERE device_hash IN (
      SELECT device_hash FROM oauth_devices WHERE expires_at < now() - interval '1 day' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), grants AS (
    DELETE FROM credentials WHERE id IN (
      SELECT c.id FROM credentials c JOIN oauth_clients k ON k.id = c.client_id
      WHERE c.kind = 'oauth' AND c.created_at < now() - interval '30 days'
        AND (c.revoked_at < now() - interval '30 days' OR (k.user_id IS NULL
          AND NOT EXISTS (SELECT FROM oauth_refresh_tokens r
                          WHERE r.credential_id = c.id AND r.expires_at > now() - interval '1 day')
          AND NOT EXISTS (SELECT FROM oauth_access_tokens a WHERE a.credential_id = c.id AND a.expires_at > now())))
      LIMIT p_limit FOR UPDATE OF c SKIP LOCKED)
    RETURNING 1
  ), clients AS (
    DELETE FROM oauth_clients WHERE id IN (
      SELECT k.id FROM oauth_clients k
      WHERE k.kind IN ('dynamic', 'document') AND NOT EXISTS (SELECT FROM credentials c WHERE c.client_id = k.id)
        AND coalesce(k.used_at, k.created_at - interval '89 days') < now() - interval '90 days'
        AND coalesce(k.fresh_until, '-infinity') < now()
      LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM access) + (SELECT count(*) FROM refresh) + (SELECT count(*) FROM salts)
    + (SELECT count(*) FROM codes) + (SELECT count(*) FROM devices) + (SELECT count(*) FROM grants)
    + (SELECT count(*) FROM clients)
$$"""

BY_APP = {
    "find_client(text)": FIND_CLIENT,
    "register_client(uuid, text, text, text, text[], text[], text, bytea)": REGISTER_CLIENT,
    "keep_document(uuid, text, text, text, text[], text[], interval)": KEEP_DOCUMENT,
    "redeem_code(bytea, uuid, text, text, text, uuid, bytea, interval, bytea, interval)": REDEEM_CODE,
    "refresh_grant(bytea, uuid, text[], text, bytea, bytea, interval, bytea, interval)": REFRESH,
    "revoke_token(bytea, uuid)": REVOKE,
    "introspect_token(bytea)": INTROSPECT,
    "start_device(bytea, bytea, uuid, text[], text, interval)": START_DEVICE,
    "find_device(bytea)": FIND_DEVICE,
    "decide_device(bytea, text, text[], uuid[], boolean)": DECIDE_DEVICE,
    "poll_device(bytea, uuid, uuid, bytea, interval, bytea, interval)": POLL_DEVICE,
    "issue_to_service(uuid, text[], text, uuid, bytea, interval)": SERVE,
    "forget_app(uuid)": FORGET_APP,
}
HOUSE_CLIENT = "00000000-0000-7000-8000-000000000001"
"""The command line, which everybody has: a public client of the device flow."""


def moment(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(
        name,
        postgresql.TIMESTAMP(timezone=True),
        nullable=nullable,
        server_default=None if default is None else sa.text(default),
    )


def texts(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False)


def ids(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.ARRAY(sa.Uuid()), nullable=True)


def flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def create_tables() -> None:
    op.create_table(
        "oauth_clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=True),
        texts("redirect_uris"),
        texts("grant_types"),
        sa.Column("auth_method", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        texts("scopes"),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        flag("may_introspect"),
        moment("created_at", nullable=False, default="now()"),
        moment("used_at"),
        moment("fresh_until"),
        sa.CheckConstraint(
            "kind IN ('house', 'registered', 'dynamic', 'document')", name=op.f("oauth_clients_kind_known")
        ),
        sa.CheckConstraint(
            "auth_method IN ('none', 'client_secret_basic', 'client_secret_post')",
            name=op.f("oauth_clients_auth_method_known"),
        ),
        sa.CheckConstraint(
            "(auth_method = 'none') = (secret_hash IS NULL)", name=op.f("oauth_clients_secret_where_used")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("oauth_clients_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("oauth_clients_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("oauth_clients_pkey")),
        sa.UniqueConstraint("client_id", name=op.f("oauth_clients_client_id_key")),
    )
    op.create_table(
        "oauth_consents",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        texts("scopes"),
        ids("project_ids"),
        flag("read_only"),
        moment("updated_at", nullable=False, default="now()"),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("oauth_consents_client_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("oauth_consents_user_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "client_id", name=op.f("oauth_consents_pkey")),
    )
    op.create_table(
        "oauth_codes",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.Text(), nullable=False),
        texts("scopes"),
        ids("project_ids"),
        flag("read_only"),
        sa.Column("audience", sa.Text(), nullable=False),
        moment("expires_at", nullable=False, default="now() + interval '60 seconds'"),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("oauth_codes_client_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("oauth_codes_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("oauth_codes_pkey")),
        sa.UniqueConstraint("request_id", name=op.f("oauth_codes_request_id_key")),
    )
    op.create_index(op.f("oauth_codes_expires_at_idx"), "oauth_codes", ["expires_at"])
    op.create_table(
        "oauth_devices",
        sa.Column("device_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        texts("scopes"),
        ids("project_ids"),
        flag("read_only"),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("interval_seconds", sa.Integer(), server_default=sa.text("5"), nullable=False),
        moment("polled_at"),
        moment("expires_at", nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'approved', 'denied')", name=op.f("oauth_devices_state_known")),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("oauth_devices_client_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("oauth_devices_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_hash", name=op.f("oauth_devices_pkey")),
        sa.UniqueConstraint("user_code_hash", name=op.f("oauth_devices_user_code_hash_key")),
    )
    op.create_index(op.f("oauth_devices_expires_at_idx"), "oauth_devices", ["expires_at"])
    op.create_table(
        "oauth_access_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        texts("scopes"),
        moment("created_at", nullable=False, default="now()"),
        moment("expires_at", nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("oauth_access_tokens_credential_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("oauth_access_tokens_pkey")),
    )
    op.create_index(op.f("oauth_access_tokens_credential_id_idx"), "oauth_access_tokens", ["credential_id"])
    op.create_index(op.f("oauth_access_tokens_expires_at_idx"), "oauth_access_tokens", ["expires_at"])
    op.create_table(
        "oauth_refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        moment("created_at", nullable=False, default="now()"),
        moment("expires_at", nullable=False),
        moment("used_at"),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("successor_hash", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("oauth_refresh_tokens_credential_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("oauth_refresh_tokens_pkey")),
    )
    op.create_index(op.f("oauth_refresh_tokens_credential_id_idx"), "oauth_refresh_tokens", ["credential_id"])
    op.create_index(op.f("oauth_refresh_tokens_expires_at_idx"), "oauth_refresh_tokens", ["expires_at"])
    op.create_index(
        "oauth_refresh_tokens_salted_idx",
        "oauth_refresh_tokens",
        ["successor_hash"],
        postgresql_where=sa.text("salt IS NOT NULL"),
    )


def widen_credentials() -> None:
    op.add_column("credentials", ids("project_ids"))
    op.add_column("credentials", sa.Column("client_id", sa.Uuid(), nullable=True))
    op.add_column("credentials", sa.Column("audience", sa.Text(), nullable=True))
    op.alter_column("credentials", "token_hash", nullable=True)
    op.create_foreign_key(
        op.f("credentials_client_id_fkey"),
        "credentials",
        "oauth_clients",
        ["client_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_index(op.f("credentials_client_id_idx"), "credentials", ["client_id"])
    op.drop_constraint(op.f("credentials_kind_known"), "credentials")
    op.create_check_constraint(
        op.f("credentials_kind_known"), "credentials", "kind IN ('secret', 'link', 'session', 'feed', 'oauth')"
    )
    op.create_check_constraint(
        op.f("credentials_client_of_oauth"), "credentials", "(kind = 'oauth') = (client_id IS NOT NULL)"
    )
    op.create_check_constraint(
        op.f("credentials_token_of_others"), "credentials", "(kind = 'oauth') = (token_hash IS NULL)"
    )
    op.create_check_constraint(
        op.f("credentials_one_binding"), "credentials", "project_id IS NULL OR project_ids IS NULL"
    )
    rls.grant("SELECT (project_ids, client_id, audience)", "credentials")


def bind_to_several(binding: str, unbound: str) -> None:
    """The policies that keep a caller without a chosen project to what its credential is bound to."""
    op.execute(
        "ALTER POLICY app_select ON project_members USING ((user_id = (SELECT acting_user()) AND"
        f" {binding.format('project_id')}) OR project_id = (SELECT readable_project()))"
    )
    op.execute(
        "ALTER POLICY app_select ON projects USING (id = (SELECT readable_project()) OR EXISTS (SELECT FROM"
        " project_members m WHERE m.project_id = projects.id AND m.user_id = (SELECT acting_user())"
        f" AND {binding.format('m.project_id')}))"
    )
    op.execute(f"ALTER POLICY app_insert ON projects WITH CHECK (created_by = (SELECT writing_user()) AND {unbound})")


def rewrite(change: Callable[[str], str]) -> None:
    """Change every function of the house whose body ``change`` changes; it keeps its rights and its dependants."""
    functions = sa.text(
        "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN ('public', 'ops') AND p.prokind = 'f' AND p.prosrc ~ 'bound_project|c\\.project_id'"
    )
    for definition in op.get_bind().scalars(functions).all():
        changed = change(definition)
        if changed != definition:
            op.get_bind().exec_driver_sql(changed)


def protect() -> None:
    """Tokens, codes and devices are reached by who holds them, through the functions; a person sees what is theirs."""
    nobody = {"insert": "false", "update": "false", "delete": "false"}
    grants = "SELECT c.{} FROM credentials c WHERE c.user_id = (SELECT acting_person())"
    rls.protect("oauth_clients", select=f"id IN ({grants.format('client_id')})", **nobody)
    rls.grant("SELECT (id, client_id, kind, name, uri, redirect_uris, created_at, used_at)", "oauth_clients")
    for table in ("oauth_access_tokens", "oauth_refresh_tokens"):
        rls.protect(table, select=f"credential_id IN ({grants.format('id')})", **nobody)
        rls.grant("SELECT (credential_id, created_at, expires_at)", table)
    rls.protect("oauth_devices", select="false", **nobody)
    mine = "user_id = (SELECT acting_person())"
    rls.protect("oauth_codes", select="false", insert=mine, update="false", delete="false")
    rls.grant("INSERT", "oauth_codes")
    rls.protect("oauth_consents", select=mine, insert=mine, update=mine, delete=mine)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "oauth_consents")


def upgrade() -> None:
    create_tables()
    widen_credentials()
    op.execute("DROP FUNCTION authenticate(bytea)")
    op.execute(AUTHENTICATE)
    rls.allow("authenticate(bytea)")
    op.execute(BOUND_PROJECTS)
    rls.allow("bound_projects()")
    rewrite(lambda body: IN_ONE.sub(r"coalesce(\1 = ANY ((SELECT bound_projects())::uuid[]), true)", body))
    rewrite(lambda body: body.replace(ONE, SEVERAL))
    bind_to_several("coalesce({} = ANY ((SELECT bound_projects())::uuid[]), true)", "(SELECT bound_projects()) IS NULL")
    op.execute(UUID7)
    for signature, body in PARTS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    op.execute(CLEAN_UP)
    rls.allow("clean_up_oauth(integer)", ops=True)
    protect()
    op.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name, grant_types) VALUES"
        f" ('{HOUSE_CLIENT}', 'innkeeper-cli', 'house', 'Innkeeper command line',"
        " '{urn:ietf:params:oauth:grant-type:device_code,refresh_token}')"
    )


def downgrade() -> None:
    op.execute("DELETE FROM credentials WHERE kind = 'oauth'")
    for signature in ("clean_up_oauth(integer)", *BY_APP, *PARTS, "uuid7()"):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP FUNCTION authenticate(bytea)")
    op.execute(AUTHENTICATE_BEFORE)
    rls.allow("authenticate(bytea)")
    rewrite(lambda body: IN_SEVERAL.sub(r"(SELECT coalesce(bound_project(), \1)) = \1", body))
    rewrite(lambda body: body.replace(SEVERAL, ONE))
    bind_to_several("{0} = coalesce((SELECT bound_project()), {0})", "(SELECT bound_project()) IS NULL")
    op.execute("DROP FUNCTION bound_projects()")
    for table in ("oauth_refresh_tokens", "oauth_access_tokens", "oauth_devices", "oauth_codes", "oauth_consents"):
        op.drop_table(table)
    op.drop_constraint(op.f("credentials_kind_known"), "credentials")
    op.create_check_constraint(
        op.f("credentials_kind_known"), "credentials", "kind IN ('secret', 'link', 'session', 'feed')"
    )
    for constraint in ("client_of_oauth", "token_of_others", "one_binding"):
        op.drop_constraint(op.f(f"credentials_{constraint}"), "credentials")
    op.alter_column("credentials", "token_hash", nullable=False)
    op.drop_constraint(op.f("credentials_client_id_fkey"), "credentials")
    op.drop_table("oauth_clients")  # its policy asks for the columns that go next
    for column in ("project_ids", "client_id", "audience"):
        op.drop_column("credentials", column)
