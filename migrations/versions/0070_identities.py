"""accounts at issuers (GitHub, Google, OpenID Connect) that open ours, and their rechecks"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0070"
down_revision = "0076"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
HOUSE = "'00000000-0000-0000-0000-000000000000'::uuid"
"""What stands in the audit log in the place of a credential when the house itself acts."""

START = f"""
CREATE FUNCTION start_sign_in_flow(
  p_state bytea, p_browser bytea, p_provider text, p_next text, p_consent boolean, p_connect boolean, p_life interval
) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  person uuid := CASE WHEN p_connect THEN acting_person() END;
BEGIN
  IF p_connect AND person IS NULL THEN
    RETURN false;
  END IF;
  INSERT INTO sign_in_flows (state_hash, browser_hash, provider, next, consent, user_id, expires_at)
    VALUES (p_state, p_browser, p_provider, p_next, p_consent, person, now() + p_life);
  RETURN true;
END $$"""

# Uses the state of a flow up, unless another browser comes with it: to that one it is nothing.
TAKE = f"""
CREATE FUNCTION take_sign_in_flow(
  p_state bytea, p_browser bytea, OUT outcome text, OUT provider text, OUT next text, OUT consent boolean,
  OUT user_id uuid
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  flow sign_in_flows%ROWTYPE;
BEGIN
  SELECT * INTO flow FROM sign_in_flows f WHERE f.state_hash = p_state FOR UPDATE;
  IF NOT FOUND OR flow.expires_at <= now() THEN
    outcome := 'closed';
  ELSIF flow.browser_hash <> p_browser THEN
    outcome := 'elsewhere';
  ELSE
    DELETE FROM sign_in_flows f WHERE f.state_hash = p_state;
    outcome := 'taken';
    provider := flow.provider;
    next := flow.next;
    consent := flow.consent;
    user_id := flow.user_id;
  END IF;
END $$"""

# Parts of the functions below; nobody else may call them.
KEEP = """
CREATE FUNCTION keep_identity(
  p_identity uuid, p_user uuid, p_provider text, p_issuer text, p_subject text, p_email text, p_token_kind text,
  p_token bytea
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO identities AS i (id, user_id, provider, issuer, subject, email, token_kind, token)
    VALUES (p_identity, p_user, p_provider, p_issuer, p_subject, coalesce(p_email, ''), p_token_kind, p_token)
    ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, email = coalesce(p_email, i.email),
      token_kind = coalesce(excluded.token_kind, i.token_kind), token = coalesce(excluded.token, i.token),
      used_at = now(), checked_at = now(), suspended_at = NULL;
  UPDATE credentials SET expires_at = nullif(resumes_until, 'infinity'), resumes_until = NULL
    WHERE identity_id = p_identity AND resumes_until IS NOT NULL;
END $$"""
# A suspended grant has expired until further notice: that is the one condition of which all that asks for live
# credentials knows. Sessions end for good, since whoever signs in again gets a new one.
SUSPEND = f"""
CREATE FUNCTION suspend_identity(p_identity uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
BEGIN
  UPDATE identities SET suspended_at = now(), checked_at = now(), token = NULL, token_kind = NULL
    WHERE id = p_identity;
  DELETE FROM oauth_codes WHERE identity_id = p_identity AND credential_id IS NULL;
  DELETE FROM oauth_devices WHERE identity_id = p_identity AND credential_id IS NULL;
  UPDATE credentials SET revoked_at = now()
    WHERE identity_id = p_identity AND kind <> 'oauth' AND revoked_at IS NULL;
  UPDATE credentials SET resumes_until = coalesce(expires_at, 'infinity'), expires_at = now()
    WHERE identity_id = p_identity AND kind = 'oauth' AND revoked_at IS NULL AND resumes_until IS NULL
      AND (expires_at IS NULL OR expires_at > now());
  INSERT INTO audit (id, credential_id, user_id, action, target)
    SELECT uuid7(), {HOUSE}, i.user_id, 'identity:suspended', i.provider FROM identities i WHERE i.id = p_identity;
END $$"""
PARTS = {
    "keep_identity(uuid, uuid, text, text, text, text, text, bytea)": KEEP,
    "suspend_identity(uuid)": SUSPEND,
}

HAS_TOKEN = f"""
CREATE FUNCTION has_identity_token(p_identity uuid) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM identities i WHERE i.id = p_identity AND i.token IS NOT NULL)
$$"""

# Opens a session for whom an issuer vouches. An account is known by the issuer's own name for it; only one that is new
# is found by its address, which the issuer has verified (p_email), and never an account that another one of the same
# issuer opens already: addresses change hands. What is new comes with all that a first sign-up has.
ENTER = f"""
CREATE FUNCTION enter_with_identity(
  p_identity uuid, p_provider text, p_issuer text, p_subject text, p_email text, p_name text, p_sign_up boolean,
  p_token_kind text, p_token bytea, p_user uuid, p_project uuid, p_mail uuid, p_session uuid, p_hash bytea, p_hint text,
  p_scopes text[], p_life interval
) RETURNS text LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  account users%ROWTYPE;
  linked boolean := false;
  created boolean := false;
BEGIN
  SELECT u.* INTO account FROM identities i JOIN users u ON u.id = i.user_id WHERE i.id = p_identity FOR UPDATE OF i;
  IF NOT FOUND THEN
    IF p_email IS NULL THEN
      RETURN 'unverified';
    END IF;
    IF p_sign_up THEN
      INSERT INTO users (id, email, name) VALUES (p_user, p_email, p_name) ON CONFLICT (email) DO NOTHING;
      created := FOUND;
    END IF;
    SELECT * INTO account FROM users u WHERE u.email = p_email FOR UPDATE;
    IF NOT FOUND THEN
      RETURN 'closed';
    ELSIF EXISTS (SELECT FROM identities i WHERE i.user_id = account.id AND i.issuer = p_issuer
        AND i.id <> p_identity) THEN
      RETURN 'taken';
    END IF;
    linked := NOT created;
  END IF;
  IF account.disabled_at IS NOT NULL THEN
    RETURN 'disabled';
  END IF;
  PERFORM keep_identity(p_identity, account.id, p_provider, p_issuer, p_subject, p_email, p_token_kind, p_token);
  INSERT INTO credentials (id, kind, user_id, name, hint, token_hash, scopes, expires_at, identity_id)
    VALUES (p_session, 'session', account.id, 'pages', p_hint, p_hash, p_scopes, now() + p_life, p_identity);
  IF created THEN
    INSERT INTO projects (id, name, created_by) VALUES (p_project, 'Personal project', account.id);
    PERFORM welcome_user(account.id, p_mail);
  END IF;
  INSERT INTO audit (id, credential_id, user_id, action, target)
    SELECT uuid7(), p_session, account.id, act.name, act.target FROM (VALUES
      (created, 'account:created', account.id::text),
      (linked OR created, 'identity:connected', p_provider),
      (true, 'session:opened', p_provider)) act (done, name, target) WHERE act.done;
  RETURN CASE WHEN created THEN 'signed_up' ELSE 'signed_in' END;
END $$"""

# The person who is signed in connects an account at an issuer, which has verified an address of theirs.
CONNECT = f"""
CREATE FUNCTION connect_identity(
  p_identity uuid, p_provider text, p_issuer text, p_subject text, p_emails text[], p_token_kind text, p_token bytea
) RETURNS text LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  person uuid := acting_person();
  address text;
  held uuid;
BEGIN
  SELECT u.email INTO address FROM users u WHERE u.id = person FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'closed';
  END IF;
  SELECT i.user_id INTO held FROM identities i WHERE i.id = p_identity FOR UPDATE;
  IF held <> person THEN
    RETURN 'taken';
  ELSIF held IS NULL AND NOT address = ANY (p_emails) THEN
    RETURN 'unverified';
  END IF;
  PERFORM keep_identity(p_identity, person, p_provider, p_issuer, p_subject, p_emails[1], p_token_kind, p_token);
  INSERT INTO audit (id, credential_id, user_id, action, target)
    VALUES (uuid7(), acting_credential(), person, 'identity:connected', p_provider);
  RETURN 'connected';
END $$"""

# What came of it ends: sessions and grants, all but the session that asks.
DISCONNECT = f"""
CREATE FUNCTION disconnect_identity(p_identity uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  person uuid := acting_person();
  here uuid := acting_credential();
  gone text;
BEGIN
  SELECT i.provider INTO gone FROM identities i WHERE i.id = p_identity AND i.user_id = person FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  DELETE FROM oauth_codes WHERE identity_id = p_identity AND credential_id IS NULL;
  DELETE FROM oauth_devices WHERE identity_id = p_identity AND credential_id IS NULL;
  UPDATE credentials SET revoked_at = now() WHERE identity_id = p_identity AND id <> here AND revoked_at IS NULL;
  DELETE FROM identities WHERE id = p_identity;
  INSERT INTO audit (id, credential_id, user_id, action, target)
    VALUES (uuid7(), here, person, 'identity:disconnected', gone);
  RETURN true;
END $$"""

# Of what the acting session came; it goes over to what a person lets in with it.
ACTING_IDENTITY = f"""
CREATE FUNCTION acting_identity() RETURNS uuid LANGUAGE plpgsql STABLE {SECURED} AS $$
BEGIN
  RETURN (SELECT c.identity_id FROM credentials c WHERE c.id = acting_credential());
END $$"""
APPROVED = f"""
CREATE FUNCTION approved_with_identity() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  NEW.identity_id := acting_identity();
  RETURN NEW;
END $$"""
REDEEMED = f"""
CREATE FUNCTION redeemed_with_identity() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  UPDATE credentials SET identity_id = NEW.identity_id WHERE id = NEW.credential_id;
  RETURN NULL;
END $$"""
TRIGGERS = {
    "approved_with_identity()": APPROVED,
    "redeemed_with_identity()": REDEEMED,
}

# Ops. Adds a job for each identity, of p_limit after p_after, that nobody has asked the issuer about for half a day; so
# one that fails for hours is still asked again within the day. Without a token only signing in is asking: after a day
# without, it is suspended. NULL: there are no more.
LOOK = f"""
CREATE FUNCTION look_at_identities(p_after uuid, p_limit integer) RETURNS uuid LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  due identities%ROWTYPE;
  last uuid;
BEGIN
  FOR due IN SELECT * FROM identities i WHERE i.suspended_at IS NULL AND i.id > p_after
      AND i.checked_at < now() - CASE WHEN i.token IS NULL THEN interval '23 hours' ELSE interval '12 hours' END
      ORDER BY i.id LIMIT p_limit LOOP
    IF due.token IS NULL THEN
      PERFORM suspend_identity(due.id);
    ELSE
      PERFORM ops.add_job(NULL, NULL, NULL, NULL, 'recheck_identity', jsonb_build_object('identity_id', due.id),
        due.id::text, NULL, NULL);
    END IF;
    last := due.id;
  END LOOP;
  RETURN last;
END $$"""
FIND_IDENTITY = f"""
CREATE FUNCTION identity_to_check(p_identity uuid)
RETURNS TABLE (provider text, issuer text, subject text, token_kind text, token bytea, checked_at timestamptz)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT i.provider, i.issuer, i.subject, i.token_kind, i.token, i.checked_at FROM identities i
  WHERE i.id = p_identity AND i.suspended_at IS NULL AND i.token IS NOT NULL
$$"""
# Ops. What the issuer said to what was read at p_seen (its checked_at: a new root secret changes only the token).
# False: somebody has signed in meanwhile, which is newer. No token: it said no.
CHECKED = f"""
CREATE FUNCTION identity_checked(p_identity uuid, p_seen timestamptz, p_token_kind text, p_token bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  PERFORM FROM identities i WHERE i.id = p_identity AND i.checked_at = p_seen FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  ELSIF p_token IS NULL THEN
    PERFORM suspend_identity(p_identity);
  ELSE
    UPDATE identities SET token_kind = p_token_kind, token = p_token, checked_at = now() WHERE id = p_identity;
  END IF;
  RETURN true;
END $$"""
# Ops, for doctor: how many there are of each issuer, and how many of them were not asked about for a day.
FIGURES = f"""
CREATE FUNCTION identity_figures() RETURNS TABLE (provider text, issuer text, identities bigint, overdue bigint)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT i.provider, i.issuer, count(*),
    count(*) FILTER (WHERE i.suspended_at IS NULL AND i.checked_at < now() - interval '1 day')
  FROM identities i GROUP BY 1, 2
$$"""
CLEAN = """
CREATE OR REPLACE FUNCTION clean_sign_ins(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {secured} AS $$
  WITH gone AS (
    DELETE FROM sign_in_links WHERE token_hash IN (
      SELECT token_hash FROM sign_in_links WHERE expires_at < now() - interval '1 hour' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ){further} SELECT count(*) {counted} FROM gone
$$"""
FLOWS = """, flows AS (
    DELETE FROM sign_in_flows WHERE state_hash IN (
      SELECT state_hash FROM sign_in_flows WHERE expires_at < now() - interval '1 hour' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  )"""

BY_APP = {
    "start_sign_in_flow(bytea, bytea, text, text, boolean, boolean, interval)": START,
    "take_sign_in_flow(bytea, bytea)": TAKE,
    "enter_with_identity(uuid, text, text, text, text, text, boolean, text, bytea, uuid, uuid, uuid, uuid, bytea, text,"
    " text[], interval)": ENTER,
    "connect_identity(uuid, text, text, text, text[], text, bytea)": CONNECT,
    "disconnect_identity(uuid)": DISCONNECT,
    "has_identity_token(uuid)": HAS_TOKEN,
    "acting_identity()": ACTING_IDENTITY,
}
BY_OPS = {
    "look_at_identities(uuid, integer)": LOOK,
    "identity_to_check(uuid)": FIND_IDENTITY,
    "identity_checked(uuid, timestamptz, text, bytea)": CHECKED,
    "identity_figures()": FIGURES,
}
SEALED_ADDED = """
  UNION ALL SELECT 'identities.token', encode(substr(i.token, 2, 4), 'hex'), count(*) FROM identities i
    WHERE i.token IS NOT NULL GROUP BY 2"""


def _moment(name: str, default: str | None = None) -> sa.Column[object]:
    at = postgresql.TIMESTAMP(timezone=True)
    return sa.Column(name, at, nullable=default is None, server_default=None if default is None else sa.text(default))


def _sealed_under(change: Callable[[str], str]) -> None:
    """What it counts else stays as it is."""
    counts = op.get_bind().scalar(sa.text("SELECT prosrc FROM pg_proc WHERE proname = 'sealed_under'"))
    op.get_bind().exec_driver_sql(
        "CREATE OR REPLACE FUNCTION sealed_under() RETURNS TABLE (place text, key_id text, secrets bigint)"
        f" LANGUAGE sql STABLE {SECURED} AS $$ {change(str(counts))} $$"
    )


def create_tables() -> None:
    op.create_table(
        "identities",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("token_kind", sa.Text(), nullable=True),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        _moment("created_at", "now()"),
        _moment("used_at", "now()"),
        _moment("checked_at", "now()"),
        _moment("suspended_at"),
        sa.CheckConstraint("token_kind IN ('refresh', 'access')", name=op.f("identities_token_kind_known")),
        sa.CheckConstraint("(token IS NULL) = (token_kind IS NULL)", name=op.f("identities_token_of_a_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("identities_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("identities_pkey")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("identities_issuer_subject_key")),
    )
    op.create_index(op.f("identities_user_id_idx"), "identities", ["user_id"])
    op.create_index(op.f("identities_checked_at_idx"), "identities", ["checked_at"])
    op.create_table(
        "sign_in_flows",
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("next", sa.Text(), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        _moment("created_at", "now()"),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("sign_in_flows_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("sign_in_flows_pkey")),
    )
    op.create_index(op.f("sign_in_flows_expires_at_idx"), "sign_in_flows", ["expires_at"])
    nobody = {"insert": "false", "update": "false", "delete": "false"}
    rls.protect("sign_in_flows", select="false", **nobody)
    rls.protect("identities", select="user_id = (SELECT acting_person())", **nobody)
    shown = "id, user_id, provider, issuer, subject, email, created_at, used_at, checked_at, suspended_at"
    rls.grant(f"SELECT ({shown})", "identities")


def mark_credentials() -> None:
    """Sessions and grants know of which identity they came, so that they end with it."""
    for table in ("credentials", "oauth_codes", "oauth_devices"):
        op.add_column(table, sa.Column("identity_id", sa.Uuid(), nullable=True))
        op.create_foreign_key(
            op.f(f"{table}_identity_id_fkey"), table, "identities", ["identity_id"], ["id"], ondelete="SET NULL"
        )
        op.create_index(op.f(f"{table}_identity_id_idx"), table, ["identity_id"])
    op.add_column("credentials", _moment("resumes_until"))


def upgrade() -> None:
    create_tables()
    mark_credentials()
    for signature, body in PARTS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for signature, body in BY_OPS.items():
        op.execute(body)
        rls.allow(signature, ops=True)
    for signature, body in TRIGGERS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER oauth_codes_approved BEFORE INSERT ON oauth_codes"
        " FOR EACH ROW EXECUTE FUNCTION approved_with_identity()"
    )
    op.execute(
        "CREATE TRIGGER oauth_devices_approved BEFORE UPDATE OF user_id ON oauth_devices"
        " FOR EACH ROW EXECUTE FUNCTION approved_with_identity()"
    )
    for table in ("oauth_codes", "oauth_devices"):
        op.execute(
            f"CREATE TRIGGER {table}_redeemed AFTER UPDATE OF credential_id ON {table} FOR EACH ROW"
            " WHEN (NEW.identity_id IS NOT NULL AND NEW.credential_id IS NOT NULL)"
            " EXECUTE FUNCTION redeemed_with_identity()"
        )
    _sealed_under(lambda counts: counts + SEALED_ADDED)
    op.execute(CLEAN.format(secured=SECURED, further=FLOWS, counted="+ (SELECT count(*) FROM flows)"))


def downgrade() -> None:
    op.execute(CLEAN.format(secured=SECURED, further="", counted=""))
    _sealed_under(lambda counts: counts.replace(SEALED_ADDED, ""))
    # Grants that were suspended stay so: nobody would lift it any more.
    op.execute("UPDATE credentials SET revoked_at = now() WHERE resumes_until IS NOT NULL AND revoked_at IS NULL")
    for trigger, table in (
        ("oauth_codes_approved", "oauth_codes"),
        ("oauth_devices_approved", "oauth_devices"),
        ("oauth_codes_redeemed", "oauth_codes"),
        ("oauth_devices_redeemed", "oauth_devices"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for signature in (*TRIGGERS, *BY_OPS, *BY_APP, *PARTS):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_column("credentials", "resumes_until")
    for table in ("credentials", "oauth_codes", "oauth_devices"):
        op.drop_column(table, "identity_id")
    op.drop_table("sign_in_flows")
    op.drop_table("identities")
