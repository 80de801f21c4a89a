"""members: who may change whom, the last owner, what leaves with a member; invitations"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0081"
down_revision = "0080"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
USER = "nullif(current_setting('app.user_id', true), '')::uuid"
OPEN = "i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now()"

# After each change of a member, by whatever way it came: a project keeps an owner, and the log and every process hear
# of it. The project's row is the lock: two owners who leave at once do it one after the other. When the project itself
# goes, nothing of this matters any more.
KEEP_MEMBERS = f"""
CREATE FUNCTION keep_members() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    -- A project's creator is its owner from the first; that is no act of its own.
    IF NEW.role <> 'owner'
        OR NOT EXISTS (SELECT FROM projects p WHERE p.id = NEW.project_id AND p.created_by = NEW.user_id) THEN
      PERFORM note_act(NEW.project_id, NEW.user_id, 'member:added', NEW.user_id::text, NEW.role);
    END IF;
    RETURN NULL;
  END IF;
  PERFORM FROM projects p WHERE p.id = OLD.project_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF OLD.role = 'owner' AND NOT EXISTS (
      SELECT FROM project_members m WHERE m.project_id = OLD.project_id AND m.role = 'owner') THEN
    RAISE EXCEPTION 'a project keeps an owner' USING ERRCODE = 'restrict_violation';
  END IF;
  IF TG_OP = 'DELETE' THEN
    PERFORM note_act(OLD.project_id, OLD.user_id,
      CASE WHEN {USER} = OLD.user_id THEN 'member:left' ELSE 'member:removed' END, OLD.user_id::text, OLD.role);
  ELSIF NEW.role <> OLD.role THEN
    PERFORM note_act(OLD.project_id, OLD.user_id, 'member:role', OLD.user_id::text,
      format('%s (was %s)', NEW.role, OLD.role));
  END IF;
  PERFORM pg_notify('innkeeper_revoked', 'user:' || OLD.user_id::text);
  IF OLD.role IN ('owner', 'admin') AND (TG_OP = 'DELETE' OR NEW.role NOT IN ('owner', 'admin')) THEN
    UPDATE invitations i SET revoked_at = now()
      WHERE i.project_id = OLD.project_id AND i.invited_by = OLD.user_id AND {OPEN};
  END IF;
  RETURN NULL;
END $$"""

# What goes with a member, at the end of the transaction: who leaves by a key of the project still writes down that
# they did. A key or grant that was of this project alone has ended; one of several projects loses this one.
END_MEMBER = f"""
CREATE FUNCTION end_member() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  live uuid[];
BEGIN
  IF NOT EXISTS (SELECT FROM projects p WHERE p.id = OLD.project_id) OR EXISTS (SELECT FROM project_members m
      WHERE m.project_id = OLD.project_id AND m.user_id = OLD.user_id) THEN
    RETURN NULL;
  END IF;
  UPDATE credentials c SET revoked_at = now()
    WHERE c.user_id = OLD.user_id AND c.revoked_at IS NULL
      AND (c.project_id = OLD.project_id OR c.project_ids = ARRAY[OLD.project_id]);
  UPDATE credentials c SET project_ids = array_remove(c.project_ids, OLD.project_id)
    WHERE c.user_id = OLD.user_id AND c.revoked_at IS NULL AND OLD.project_id = ANY (c.project_ids);
  UPDATE approvals a SET state = 'expired'
    WHERE a.user_id = OLD.user_id AND a.project_id = OLD.project_id AND a.state IN ('pending', 'approved', 'denied');
  SELECT array_agg(r.id) INTO live FROM runs r
    WHERE r.project_id = OLD.project_id AND r.user_id = OLD.user_id AND r.status IN ('queued', 'running');
  IF live IS NOT NULL THEN
    PERFORM stop_runs(OLD.project_id, live);
  END IF;
  RETURN NULL;
END $$"""

# As migration 0080 has it; and who leaves may still write down in the same transaction that they did.
MAY_AUDIT = f"""
CREATE OR REPLACE FUNCTION may_audit(p_project uuid) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM project_members m WHERE m.project_id = p_project AND m.user_id = {USER})
    OR NOT EXISTS (SELECT FROM projects p WHERE p.id = p_project)
    OR EXISTS (SELECT FROM audit a WHERE a.project_id = p_project AND a.action = 'member:left' AND a.user_id = {USER}
      AND a.created_at = now())
$$"""

MAY_AUDIT_BEFORE = f"""
CREATE OR REPLACE FUNCTION may_audit(p_project uuid) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM project_members m WHERE m.project_id = p_project AND m.user_id = {USER})
    OR NOT EXISTS (SELECT FROM projects p WHERE p.id = p_project)
$$"""

# The members of the caller's project with what people call them, in the order in which their accounts were made.
PROJECT_PEOPLE = f"""
CREATE FUNCTION project_people(p_after uuid, p_limit integer)
RETURNS TABLE (id uuid, email text, name text, role text, created_at timestamptz)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT u.id, u.email, u.name, m.role, m.created_at FROM project_members m JOIN users u ON u.id = m.user_id
  WHERE m.project_id = (SELECT readable_project()) AND (SELECT acting_end_user()) IS NULL
    AND (p_after IS NULL OR u.id > p_after)
  ORDER BY u.id LIMIT p_limit
$$"""

# Gives a project to one of its other members: that one becomes an owner, and the caller an admin. False: the caller is
# no owner, or the other no member.
TRANSFER = f"""
CREATE FUNCTION transfer_project(p_member uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  mine uuid := owned_project();
BEGIN
  PERFORM FROM projects p WHERE p.id = mine FOR NO KEY UPDATE;
  UPDATE project_members m SET role = 'owner'
    WHERE m.project_id = mine AND m.user_id = p_member AND m.user_id <> {USER} AND acting_end_user() IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE project_members m SET role = 'admin' WHERE m.project_id = mine AND m.user_id = {USER};
  PERFORM note_act(mine, NULL, 'project:transferred', mine::text, p_member::text);
  RETURN true;
END $$"""

# How many invitations went out in the last day: of the caller's project, by the caller from any project, and to an
# address from any project. The project's row is the lock.
COUNT_INVITATIONS = f"""
CREATE FUNCTION count_invitations(p_address text, OUT of_project bigint, OUT of_person bigint, OUT to_address bigint)
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  administered uuid := administered_project();
BEGIN
  PERFORM FROM projects p WHERE p.id = administered FOR NO KEY UPDATE;
  SELECT coalesce(sum(i.sent), 0) INTO of_project FROM invitations i
    WHERE i.project_id = administered AND i.sent_at > now() - interval '1 day';
  SELECT coalesce(sum(i.sent), 0) INTO of_person FROM invitations i
    WHERE i.invited_by = {USER} AND i.sent_at > now() - interval '1 day';
  SELECT coalesce(sum(i.sent), 0) INTO to_address FROM invitations i
    WHERE i.address = lower(p_address) AND i.sent_at > now() - interval '1 day';
END $$"""

# Whether somebody with this address is waited for: they may have an account made.
IS_INVITED = f"""
CREATE FUNCTION is_invited(p_address text) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM invitations i WHERE i.address = lower(p_address) AND {OPEN})
$$"""

# What whoever holds the link is told.
SHOWN = (
    "project_id uuid, id uuid, project text, role text, address text, expires_at timestamptz, inviter text, state text"
)
INVITATION = """
  SELECT i.project_id, i.id, p.name, i.role, i.address, i.expires_at,
    coalesce(nullif(u.name, ''), u.email, 'Somebody'),
    CASE WHEN i.accepted_at IS NOT NULL THEN 'accepted' WHEN i.revoked_at IS NOT NULL THEN 'revoked'
      WHEN i.expires_at <= now() THEN 'expired' ELSE 'open' END
  FROM invitations i JOIN projects p ON p.id = i.project_id LEFT JOIN users u ON u.id = i.invited_by"""
FIND_INVITATION = f"""
CREATE FUNCTION find_invitation(p_token bytea) RETURNS TABLE ({SHOWN}) LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  {INVITATION} WHERE i.token_hash = p_token
$$"""
# Those that wait for the person behind this session, whose address was proven when they signed in.
MY_INVITATIONS = f"""
CREATE FUNCTION my_invitations() RETURNS TABLE ({SHOWN}) LANGUAGE sql STABLE {SECURED} AS $$
  {INVITATION} JOIN users me ON me.id = acting_person() AND me.email = i.address
  WHERE {OPEN} ORDER BY i.id DESC LIMIT 50
$$"""
# By the person it is for alone. NULL: there is none that is open and theirs. Who is a member already stays what they
# are.
ANSWER_INVITATION = f"""
CREATE FUNCTION answer_invitation(p_project uuid, p_id uuid, p_accept boolean) RETURNS text
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  me users%ROWTYPE;
  found_one invitations%ROWTYPE;
BEGIN
  SELECT * INTO me FROM users u WHERE u.id = acting_person();
  SELECT * INTO found_one FROM invitations i
    WHERE i.project_id = p_project AND i.id = p_id AND i.address = me.email AND {OPEN} FOR UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF NOT p_accept THEN
    UPDATE invitations i SET revoked_at = now() WHERE i.project_id = p_project AND i.id = p_id;
    PERFORM note_act(p_project, me.id, 'invitation:declined', p_id::text, NULL);
    RETURN 'declined';
  END IF;
  UPDATE invitations i SET accepted_at = now(), accepted_by = me.id WHERE i.project_id = p_project AND i.id = p_id;
  PERFORM note_act(p_project, me.id, 'invitation:accepted', p_id::text, found_one.role);
  INSERT INTO project_members (user_id, project_id, role) VALUES (me.id, p_project, found_one.role)
    ON CONFLICT DO NOTHING;
  RETURN CASE WHEN FOUND THEN 'joined' ELSE 'member' END;
END $$"""

# Who was let sign up by an invitation alone is so no more once it is taken back.
FORGET_SIGN_UPS = f"""
CREATE FUNCTION forget_sign_ups() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF NOT is_invited(NEW.address) THEN
    UPDATE sign_in_links l SET sign_up = false WHERE l.address = NEW.address AND l.used_at IS NULL AND l.sign_up;
  END IF;
  RETURN NULL;
END $$"""
TRIGGERS = (
    (
        "CREATE TRIGGER project_members_kept AFTER INSERT OR UPDATE OF role OR DELETE ON project_members"
        " FOR EACH ROW EXECUTE FUNCTION keep_members()"
    ),
    (
        "CREATE CONSTRAINT TRIGGER project_members_ended AFTER DELETE ON project_members DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION end_member()"
    ),
    (
        "CREATE TRIGGER invitations_revoked AFTER UPDATE OF revoked_at ON invitations FOR EACH ROW"
        " WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION forget_sign_ups()"
    ),
)
PARTS = {"keep_members()": KEEP_MEMBERS, "end_member()": END_MEMBER, "forget_sign_ups()": FORGET_SIGN_UPS}
BY_APP = {
    "project_people(uuid, integer)": PROJECT_PEOPLE,
    "transfer_project(uuid)": TRANSFER,
    "count_invitations(text)": COUNT_INVITATIONS,
    "is_invited(text)": IS_INVITED,
    "find_invitation(bytea)": FIND_INVITATION,
    "my_invitations()": MY_INVITATIONS,
    "answer_invitation(uuid, uuid, boolean)": ANSWER_INVITATION,
}
NEW_SCOPES = "audit:read,members:read,members:write"
BEFORE = ",".join(
    f"{family}:read,{family}:write" for family in ("agents", "projects", "runs", "storage", "registry", "email")
)
NOBODYS = "(SELECT acting_end_user()) IS NULL"
ADMINISTERED = "project_id = (SELECT administered_project())"
OWNED = "project_id = (SELECT owned_project())"
BELOW = f"({OWNED} OR ({ADMINISTERED} AND role <> 'owner')) AND {NOBODYS}"
MYSELF = f"(user_id = (SELECT writing_user()) AND project_id = (SELECT readable_project()) AND {NOBODYS})"


def moment(name: str, default: str | None = None) -> sa.Column[object]:
    given = None if default is None else sa.text(default)
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=given, nullable=default is None)


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("invited_by", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sent", sa.Integer(), server_default=sa.text("1"), nullable=False),
        moment("sent_at", "now()"),
        moment("created_at", "now()"),
        moment("expires_at", "now() + interval '7 days'"),
        moment("accepted_at"),
        sa.Column("accepted_by", sa.Uuid(), nullable=True),
        moment("revoked_at"),
        sa.CheckConstraint("role IN ('admin', 'member', 'viewer')", name=op.f("invitations_role_known")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("invitations_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("invitations_pkey")),
        sa.UniqueConstraint("token_hash", name=op.f("invitations_token_hash_key")),
    )
    op.create_index(
        "invitations_one_open",
        "invitations",
        ["project_id", "address"],
        unique=True,
        postgresql_where=sa.text("accepted_at IS NULL AND revoked_at IS NULL"),
    )
    op.create_index(op.f("invitations_address_idx"), "invitations", ["address"])
    op.create_index(op.f("invitations_invited_by_idx"), "invitations", ["invited_by"])
    rls.protect(
        "invitations",
        select=f"project_id = (SELECT overseen_project()) AND {NOBODYS}",
        insert=f"{ADMINISTERED} AND invited_by = (SELECT acting_user()) AND {NOBODYS}",
        update=f"{ADMINISTERED} AND {NOBODYS}",
        delete="false",
    )
    rls.grant(
        "SELECT (project_id, id, address, role, invited_by, sent, sent_at, created_at, expires_at, accepted_at,"
        " accepted_by, revoked_at), INSERT (project_id, id, address, role, invited_by, token_hash),"
        " UPDATE (token_hash, sent, sent_at, expires_at, revoked_at)",
        "invitations",
    )
    for signature, body in PARTS.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for trigger in TRIGGERS:
        op.execute(trigger)
    app = rls.quoted(rls.roles().app)
    op.execute(f"REVOKE INSERT, UPDATE ON project_members FROM {app}")
    rls.grant("UPDATE (role)", "project_members")
    op.execute("ALTER POLICY app_insert ON project_members WITH CHECK (false)")
    op.execute(f"ALTER POLICY app_update ON project_members USING ({BELOW}) WITH CHECK ({BELOW})")
    op.execute(f"ALTER POLICY app_delete ON project_members USING ({BELOW} OR {MYSELF})")
    op.execute("ALTER POLICY app_delete ON projects USING (id = (SELECT owned_project()))")
    op.execute(MAY_AUDIT)
    # A key that may do everything there was may do everything there is. Applications ask their person anew.
    op.execute(
        f"UPDATE credentials SET scopes = scopes || '{{{NEW_SCOPES}}}'::text[] WHERE kind <> 'oauth'"
        f" AND scopes @> '{{{BEFORE}}}'::text[] AND NOT scopes && '{{members:read}}'::text[]"
    )


def downgrade() -> None:
    removed = "scopes"
    for scope in NEW_SCOPES.split(","):
        removed = f"array_remove({removed}, '{scope}')"
    op.execute(f"UPDATE credentials SET scopes = {removed} WHERE scopes && '{{{NEW_SCOPES}}}'::text[]")
    op.execute("ALTER POLICY app_delete ON projects USING (id = (SELECT administered_project()))")
    op.execute(f"ALTER POLICY app_delete ON project_members USING ({ADMINISTERED})")
    op.execute(f"ALTER POLICY app_update ON project_members USING ({ADMINISTERED}) WITH CHECK ({ADMINISTERED})")
    op.execute(f"ALTER POLICY app_insert ON project_members WITH CHECK ({ADMINISTERED})")
    rls.grant("INSERT, UPDATE", "project_members")
    for trigger in TRIGGERS:
        words = trigger.removeprefix("CREATE ").removeprefix("CONSTRAINT ").split()
        op.execute(f"DROP TRIGGER {words[1]} ON {words[words.index('ON') + 1]}")
    op.drop_table("invitations")
    for signature in (*BY_APP, *PARTS):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute(MAY_AUDIT_BEFORE)
