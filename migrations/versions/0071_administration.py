"""administrators of the instance see its accounts, disable and enable them"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0071"
down_revision = "0077"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now())"
# A part of others: the operator's command line does the same as the page.
END_ACCOUNT = """
CREATE FUNCTION end_account(p_user uuid) RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public
AS $$
DECLARE
  ended bigint;
BEGIN
  UPDATE users SET disabled_at = coalesce(disabled_at, now()) WHERE id = p_user;
  WITH revoked AS (
    UPDATE credentials c SET revoked_at = now() WHERE c.user_id = p_user AND c.revoked_at IS NULL
      RETURNING c.expires_at IS NULL OR c.expires_at > now() AS live
  ) SELECT count(*) FILTER (WHERE live) INTO ended FROM revoked;
  PERFORM forget_unfinished(p_user);
  RETURN ended;
END $$"""
# What was about to become a session or a grant.
FORGET_UNFINISHED = """
CREATE FUNCTION forget_unfinished(p_user uuid) RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, public
AS $$
  DELETE FROM oauth_codes WHERE user_id = p_user AND credential_id IS NULL;
  DELETE FROM oauth_devices WHERE user_id = p_user AND credential_id IS NULL;
  DELETE FROM sign_in_flows WHERE user_id = p_user;
  DELETE FROM sign_in_links l USING users u WHERE u.id = p_user AND l.address = u.email;
$$"""
PARTS = {"forget_unfinished(uuid)": FORGET_UNFINISHED, "end_account(uuid)": END_ACCOUNT}

ACTING_ADMIN = f"""
CREATE FUNCTION acting_admin() RETURNS uuid LANGUAGE plpgsql STABLE {SECURED} AS $$
BEGIN
  RETURN (SELECT u.id FROM users u WHERE u.id = acting_person() AND u.admin_at IS NOT NULL);
END $$"""
# Accounts made before p_before, the newest first, whose address or name has p_search in it.
PAGE = f"""
CREATE FUNCTION admin_accounts(p_search text, p_before uuid, p_limit integer)
RETURNS TABLE (id uuid, email text, name text, created_at timestamptz, disabled_at timestamptz, admin_at timestamptz,
               projects bigint, credentials bigint)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT u.id, u.email, u.name, u.created_at, u.disabled_at, u.admin_at,
    (SELECT count(*) FROM project_members m WHERE m.user_id = u.id),
    (SELECT count(*) FROM credentials c WHERE c.user_id = u.id AND {LIVE} AND u.disabled_at IS NULL)
  FROM users u WHERE acting_admin() IS NOT NULL AND (p_before IS NULL OR u.id < p_before)
    AND (strpos(u.email, lower(p_search)) > 0 OR strpos(lower(u.name), lower(p_search)) > 0)
  ORDER BY u.id DESC LIMIT p_limit
$$"""
# False: there is no such account, or it is the administrator's own, who would lock themselves out.
SWITCH = f"""
CREATE FUNCTION admin_switch_account(p_user uuid, p_disable boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  admin uuid := acting_admin();
BEGIN
  IF admin IS NULL OR admin = p_user OR NOT EXISTS (SELECT FROM users u WHERE u.id = p_user) THEN
    RETURN false;
  END IF;
  IF p_disable THEN
    PERFORM end_account(p_user);
  ELSE
    UPDATE users SET disabled_at = NULL WHERE id = p_user;
  END IF;
  INSERT INTO audit (id, credential_id, user_id, action, target)
    VALUES (uuid7(), acting_credential(), admin, CASE WHEN p_disable THEN 'account:disabled' ELSE 'account:enabled' END,
      p_user::text);
  RETURN true;
END $$"""
BY_APP = {
    "acting_admin()": ACTING_ADMIN,
    "admin_accounts(text, uuid, integer)": PAGE,
    "admin_switch_account(uuid, boolean)": SWITCH,
}


def upgrade() -> None:
    for signature, body in PARTS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)


def downgrade() -> None:
    for signature in (*BY_APP, "end_account(uuid)", "forget_unfinished(uuid)"):
        op.execute(f"DROP FUNCTION {signature}")
