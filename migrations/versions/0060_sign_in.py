"""one-time links to sign in and sign up with, bound to the browser that asked; the instance's administrators"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0060"
down_revision = "0051"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# A link is written down for whoever asks, so that asking costs the same for every address; false: it opens nothing, for
# there is no such account and the address may not sign up.
ASK = f"""
CREATE FUNCTION ask_sign_in(
  p_token bytea, p_browser bytea, p_address text, p_sign_up boolean, p_next text, p_life interval
) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  account users%ROWTYPE;
BEGIN
  INSERT INTO sign_in_links (token_hash, browser_hash, address, sign_up, next, expires_at)
    VALUES (p_token, p_browser, lower(p_address), p_sign_up, p_next, now() + p_life);
  SELECT * INTO account FROM users u WHERE u.email = lower(p_address);
  RETURN CASE WHEN FOUND THEN account.disabled_at IS NULL ELSE p_sign_up END;
END $$"""

# What a link would do; nothing is used up. The address is told to the browser that asked, which knows it.
FIND = f"""
CREATE FUNCTION find_sign_in(p_token bytea, p_browser bytea, OUT outcome text, OUT address text)
LANGUAGE plpgsql STABLE {SECURED} AS $$
DECLARE
  link sign_in_links%ROWTYPE;
BEGIN
  SELECT * INTO link FROM sign_in_links l WHERE l.token_hash = p_token;
  IF NOT FOUND OR link.used_at IS NOT NULL OR link.expires_at <= now() THEN
    outcome := 'closed';
  ELSIF link.browser_hash <> p_browser THEN
    outcome := 'elsewhere';
  ELSE
    outcome := 'live';
    address := link.address;
  END IF;
END $$"""

# Uses a link up and opens a session: both or neither. Whoever has no account gets one, with a project of their own, the
# welcome and the job that makes them a contact, in the same transaction; the second of two links finds the first's.
USE = f"""
CREATE FUNCTION use_sign_in(
  p_token bytea, p_browser bytea, p_user uuid, p_project uuid, p_mail uuid, p_session uuid, p_hash bytea, p_hint text,
  p_scopes text[], p_life interval, OUT outcome text, OUT next text
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  link sign_in_links%ROWTYPE;
  account users%ROWTYPE;
  created boolean := false;
BEGIN
  SELECT * INTO link FROM sign_in_links l WHERE l.token_hash = p_token FOR UPDATE;
  IF NOT FOUND OR link.used_at IS NOT NULL OR link.expires_at <= now() THEN
    outcome := 'closed';
    RETURN;
  ELSIF link.browser_hash <> p_browser THEN
    outcome := 'elsewhere';
    RETURN;
  END IF;
  IF link.sign_up THEN
    INSERT INTO users (id, email) VALUES (p_user, link.address) ON CONFLICT (email) DO NOTHING;
    created := FOUND;
  END IF;
  SELECT * INTO account FROM users u WHERE u.email = link.address AND u.disabled_at IS NULL;
  IF NOT FOUND THEN
    outcome := 'closed';
    RETURN;
  END IF;
  UPDATE sign_in_links l SET used_at = now() WHERE l.token_hash = p_token;
  INSERT INTO credentials (id, kind, user_id, name, hint, token_hash, scopes, expires_at)
    VALUES (p_session, 'session', account.id, 'pages', p_hint, p_hash, p_scopes, now() + p_life);
  IF created THEN
    INSERT INTO projects (id, name, created_by) VALUES (p_project, 'Personal project', account.id);
    PERFORM welcome_user(account.id, p_mail);
    INSERT INTO audit (id, credential_id, user_id, action, target)
      VALUES (uuid7(), p_session, account.id, 'account:created', account.id::text);
  END IF;
  INSERT INTO audit (id, credential_id, user_id, action, target)
    VALUES (uuid7(), p_session, account.id, 'session:opened', 'mail');
  outcome := CASE WHEN created THEN 'signed_up' ELSE 'signed_in' END;
  next := link.next;
END $$"""

# Ops. At most p_limit links that have expired an hour ago: until then a used one is told from one that never was.
CLEAN = f"""
CREATE FUNCTION clean_sign_ins(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH gone AS (
    DELETE FROM sign_in_links WHERE token_hash IN (
      SELECT token_hash FROM sign_in_links WHERE expires_at < now() - interval '1 hour' LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ) SELECT count(*) FROM gone
$$"""

BY_APP = {
    "ask_sign_in(bytea, bytea, text, boolean, text, interval)": ASK,
    "find_sign_in(bytea, bytea)": FIND,
    "use_sign_in(bytea, bytea, uuid, uuid, uuid, uuid, bytea, text, text[], interval)": USE,
}


def upgrade() -> None:
    op.create_table(
        "sign_in_links",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("sign_up", sa.Boolean(), nullable=False),
        sa.Column("next", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("used_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("sign_in_links_pkey")),
    )
    op.create_index(op.f("sign_in_links_expires_at_idx"), "sign_in_links", ["expires_at"])
    rls.protect("sign_in_links", select="false", insert="false", update="false", delete="false")
    op.add_column("users", sa.Column("admin_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    op.execute(CLEAN)
    rls.allow("clean_sign_ins(integer)", ops=True)


def downgrade() -> None:
    for signature in (*BY_APP, "clean_sign_ins(integer)"):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_column("users", "admin_at")
    op.drop_table("sign_in_links")
