"""the audit log says from where, is never rewritten, and is read by who oversees a project, or by oneself"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import rls

revision = "0080"
down_revision = "0071"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
CREDENTIAL = "nullif(current_setting('app.credential_id', true), '')::uuid"
USER = "nullif(current_setting('app.user_id', true), '')::uuid"
OPERATOR = "'00000000-0000-0000-0000-000000000000'::uuid"
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"
COLUMNS = ("detail", "address", "user_agent", "client")

# Where an act came from: what the transaction was told (db/origin.py), as "address user-agent", and the name of the
# credential, which outlives it here.
STAMP = f"""
CREATE FUNCTION stamp_audit() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  origin text := coalesce(current_setting('app.origin', true), '');
BEGIN
  NEW.address := left(coalesce(NEW.address, nullif(split_part(origin, ' ', 1), '')), 64);
  NEW.user_agent := left(coalesce(NEW.user_agent, nullif(substr(origin, strpos(origin || ' ', ' ') + 1), '')), 160);
  NEW.client := left(coalesce(NEW.client, CASE
    WHEN NEW.credential_id <> {OPERATOR} THEN
      (SELECT coalesce(nullif(c.name, ''), c.hint) FROM credentials c WHERE c.id = NEW.credential_id)
    -- Whoever signed in to the database as its owner sits at the command line; all else is a job of the house.
    WHEN session_user = current_user THEN 'command line' ELSE 'this house' END), 120);
  RETURN NEW;
END $$"""
KEEP = """
CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is only ever added to' USING ERRCODE = 'insufficient_privilege';
END $$"""

# What the database itself tells the log, for whoever acts in this transaction. Without anybody it is the operator, and
# the act is kept for whom it concerns. No role may call it.
NOTE_ACT = f"""
CREATE FUNCTION note_act(p_project uuid, p_user uuid, p_action text, p_target text, p_detail text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, public AS $$
  INSERT INTO audit (id, credential_id, user_id, project_id, action, target, detail)
    VALUES (uuid7(), coalesce({CREDENTIAL}, {OPERATOR}), coalesce({USER}, p_user, {OPERATOR}), p_project, p_action,
      p_target, p_detail)
$$"""

# Settings that let more through than before, or less.
NOTE_SETTINGS = f"""
CREATE FUNCTION note_settings() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF NEW.approval_policy <> OLD.approval_policy THEN
    PERFORM note_act(NEW.id, NULL, 'project:approvals', NEW.id::text,
      format('%s (was %s)', NEW.approval_policy, OLD.approval_policy));
  END IF;
  IF NEW.registry_public <> OLD.registry_public THEN
    PERFORM note_act(NEW.id, NULL, 'project:registry', NEW.id::text,
      CASE WHEN NEW.registry_public THEN 'public' ELSE 'private' END);
  END IF;
  RETURN NULL;
END $$"""

# Keys, whoever makes and ends them. Sessions and grants are told by the functions that make them.
NOTE_KEYS = f"""
CREATE FUNCTION note_keys() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM note_act(NEW.project_id, NEW.user_id,
      CASE WHEN NEW.kind = 'link' THEN 'link:created' ELSE 'key:created' END, NEW.id::text, NEW.kind);
  ELSE
    PERFORM note_act(NEW.project_id, NEW.user_id, 'key:revoked', NEW.id::text, NEW.kind);
  END IF;
  RETURN NULL;
END $$"""
KEYS = "'secret', 'feed', 'publishable'"
TRIGGERS = (
    "CREATE TRIGGER audit_stamped BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION stamp_audit()",
    (
        "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT"
        " EXECUTE FUNCTION keep_audit()"
    ),
    (
        "CREATE TRIGGER projects_settings AFTER UPDATE OF approval_policy, registry_public ON projects"
        " FOR EACH ROW EXECUTE FUNCTION note_settings()"
    ),
    (
        "CREATE TRIGGER credentials_made AFTER INSERT ON credentials"
        f" FOR EACH ROW WHEN (NEW.kind IN ({KEYS}, 'link')) EXECUTE FUNCTION note_keys()"
    ),
    (
        "CREATE TRIGGER credentials_ended AFTER UPDATE OF revoked_at ON credentials FOR EACH ROW"
        f" WHEN (NEW.kind IN ({KEYS}) AND OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)"
        " EXECUTE FUNCTION note_keys()"
    ),
)

# Nobody writes into the log of a project that they have nothing to do with; one that is gone has no readers.
MAY_AUDIT = f"""
CREATE FUNCTION may_audit(p_project uuid) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM project_members m WHERE m.project_id = p_project AND m.user_id = {USER})
    OR NOT EXISTS (SELECT FROM projects p WHERE p.id = p_project)
$$"""

SHOWN = (
    "id uuid, at timestamptz, user_id uuid, email text, name text, action text, target text, detail text, address text,"
    " user_agent text, client text, run_id uuid, project_id uuid, operator boolean"
)
ROWS = f"""
  SELECT a.id, a.created_at, a.user_id, u.email, u.name, a.action, a.target, a.detail, a.address, a.user_agent,
    a.client, a.run_id, a.project_id, a.credential_id = {OPERATOR} AND a.client = 'command line'
  FROM audit a LEFT JOIN users u ON u.id = a.user_id"""
PAGED = """
    AND (p_action IS NULL OR a.action = p_action) AND (p_before IS NULL OR a.id < p_before)
    AND (SELECT acting_end_user()) IS NULL
  ORDER BY a.id DESC LIMIT p_limit"""
READ_AUDIT = f"""
CREATE FUNCTION read_audit(p_action text, p_user uuid, p_before uuid, p_limit integer) RETURNS TABLE ({SHOWN})
LANGUAGE sql STABLE {SECURED} AS $$ {ROWS}
  WHERE a.project_id = (SELECT overseen_project())
    AND (p_user IS NULL OR (a.user_id = p_user AND a.credential_id <> {OPERATOR})) {PAGED}
$$"""
READ_OWN_AUDIT = f"""
CREATE FUNCTION read_own_audit(p_action text, p_before uuid, p_limit integer) RETURNS TABLE ({SHOWN})
LANGUAGE sql STABLE {SECURED} AS $$ {ROWS}
  WHERE a.user_id = (SELECT acting_person()) {PAGED}
$$"""

# Too many tries to sign in to an account: once an hour, for the log must not be flooded by whoever tries.
NOTE_SIGN_IN_LIMIT = f"""
CREATE FUNCTION note_sign_in_limit(p_address text) RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  INSERT INTO audit (id, credential_id, user_id, action, target, client)
    SELECT uuid7(), {OPERATOR}, u.id, 'sign_in:limited', 'mail', 'sign-in page' FROM users u
    WHERE u.email = lower(p_address) AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id
      AND a.action = 'sign_in:limited' AND a.created_at > now() - interval '1 hour')
$$"""

# As migration 0004 has them; now they tell the log.
OPEN_SESSION = f"""
CREATE OR REPLACE FUNCTION open_session(p_link bytea, p_session uuid, p_hash bytea, p_hint text) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  WITH opened AS (
    UPDATE credentials c SET revoked_at = now() FROM users u
    WHERE u.id = c.user_id AND c.token_hash = p_link AND c.kind = 'link' AND {LIVE}
    RETURNING c.user_id, c.scopes
  )
  INSERT INTO credentials (id, kind, user_id, name, hint, token_hash, scopes, expires_at)
  SELECT p_session, 'session', o.user_id, 'pages', p_hint, p_hash, o.scopes, now() + interval '1 hour' FROM opened o;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO audit (id, credential_id, user_id, action, target)
    SELECT uuid7(), c.id, c.user_id, 'session:opened', 'link' FROM credentials c WHERE c.id = p_session;
  RETURN true;
END $$"""
CLOSE_SESSION = f"""
CREATE OR REPLACE FUNCTION close_session() RETURNS void LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  UPDATE credentials SET revoked_at = now() WHERE id = {CREDENTIAL} AND kind = 'session' AND revoked_at IS NULL;
  IF FOUND THEN
    INSERT INTO audit (id, credential_id, user_id, action, target)
      SELECT uuid7(), c.id, c.user_id, 'session:closed', c.id::text FROM credentials c WHERE c.id = {CREDENTIAL};
  END IF;
END $$"""
OPEN_SESSION_BEFORE = f"""
CREATE OR REPLACE FUNCTION open_session(p_link bytea, p_session uuid, p_hash bytea, p_hint text) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  WITH opened AS (
    UPDATE credentials c SET revoked_at = now() FROM users u
    WHERE u.id = c.user_id AND c.token_hash = p_link AND c.kind = 'link' AND {LIVE}
    RETURNING c.user_id, c.scopes
  )
  INSERT INTO credentials (id, kind, user_id, name, hint, token_hash, scopes, expires_at)
  SELECT p_session, 'session', o.user_id, 'pages', p_hint, p_hash, o.scopes, now() + interval '1 hour' FROM opened o;
  RETURN FOUND;
END $$"""
CLOSE_SESSION_BEFORE = f"""
CREATE OR REPLACE FUNCTION close_session() RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE credentials SET revoked_at = now() WHERE id = {CREDENTIAL} AND kind = 'session' AND revoked_at IS NULL
$$"""

# Functions of no arguments, made of the one that says which project the caller administers.
ADMINS = "m.role IN ('owner', 'admin')"
WRITING = " AND NOT c.read_only"
BY_APP = {
    "may_audit(uuid)": MAY_AUDIT,
    "read_audit(text, uuid, uuid, integer)": READ_AUDIT,
    "read_own_audit(text, uuid, integer)": READ_OWN_AUDIT,
    "note_sign_in_limit(text)": NOTE_SIGN_IN_LIMIT,
}
PARTS = {
    "stamp_audit()": STAMP,
    "keep_audit()": KEEP,
    "note_act(uuid, uuid, text, text, text)": NOTE_ACT,
    "note_settings()": NOTE_SETTINGS,
    "note_keys()": NOTE_KEYS,
}
OWN = "credential_id = (SELECT acting_credential()) AND user_id = (SELECT acting_user())"


def like_administered(name: str, before: str, after: str) -> None:
    """A function as ``administered_project``, with one condition changed."""
    (body,) = op.get_bind().scalars(sa.text("SELECT pg_get_functiondef('administered_project()'::regprocedure)"))
    if before not in body:
        raise RuntimeError(f"administered_project() has no {before!r} to change")
    op.get_bind().exec_driver_sql(body.replace("administered_project", name).replace(before, after))
    rls.allow(f"{name}()")


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("audit", sa.Column(column, sa.Text(), nullable=True))
    op.create_index(op.f("audit_project_id_action_id_idx"), "audit", ["project_id", "action", "id"])
    like_administered("overseen_project", WRITING, "")
    like_administered("owned_project", ADMINS, "m.role = 'owner'")
    for signature, body in PARTS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for statement in (*TRIGGERS, OPEN_SESSION, CLOSE_SESSION):
        op.execute(statement)
    app = rls.quoted(rls.roles().app)
    op.execute(f"REVOKE INSERT ON audit FROM {app}")
    rls.grant("INSERT (id, credential_id, user_id, project_id, run_id, action, target, detail)", "audit")
    op.execute(
        "ALTER POLICY app_select ON audit USING ((SELECT acting_end_user()) IS NULL AND"
        " (user_id = (SELECT acting_user()) OR project_id = (SELECT overseen_project())))"
    )
    op.execute(f"ALTER POLICY app_insert ON audit WITH CHECK ({OWN} AND (project_id IS NULL OR may_audit(project_id)))")


def downgrade() -> None:
    op.execute(f"ALTER POLICY app_insert ON audit WITH CHECK ({OWN})")
    op.execute(
        "ALTER POLICY app_select ON audit USING ((SELECT acting_end_user()) IS NULL AND"
        " (user_id = (SELECT acting_user()) OR project_id = (SELECT administered_project())))"
    )
    rls.grant("INSERT", "audit")
    for trigger in TRIGGERS:
        words = trigger.split()
        op.execute(f"DROP TRIGGER {words[2]} ON {words[words.index('ON') + 1]}")
    op.execute(OPEN_SESSION_BEFORE)
    op.execute(CLOSE_SESSION_BEFORE)
    for signature in (*BY_APP, *PARTS, "owned_project()", "overseen_project()"):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_index(op.f("audit_project_id_action_id_idx"), table_name="audit")
    for column in reversed(COLUMNS):
        op.drop_column("audit", column)
