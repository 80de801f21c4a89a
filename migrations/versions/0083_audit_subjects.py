"""whom an act was about, by name, for who reads the audit log"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0083"
down_revision = "0086"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
OPERATOR = "'00000000-0000-0000-0000-000000000000'::uuid"
SHOWN_BEFORE = (
    "id uuid, at timestamptz, user_id uuid, email text, name text, action text, target text, detail text, address text,"
    " user_agent text, client text, run_id uuid, project_id uuid, operator boolean"
)
COLUMNS_BEFORE = f"""
  SELECT a.id, a.created_at, a.user_id, u.email, u.name, a.action, a.target, a.detail, a.address, a.user_agent,
    a.client, a.run_id, a.project_id, a.credential_id = {OPERATOR} AND a.client = 'command line'"""
# The member or the address that an id in the log stands for, as it is today.
SUBJECT = """,
    CASE WHEN a.action LIKE 'member:%' THEN
      (SELECT coalesce(nullif(s.name, ''), s.email) FROM users s WHERE s.id = a.target::uuid)
    WHEN a.action LIKE 'invitation:%' OR a.action IN ('invite_member', 'resend_invitation', 'revoke_invitation') THEN
      (SELECT i.address FROM invitations i WHERE i.project_id = a.project_id AND i.id = a.target::uuid)
    END"""
FROM = """
  FROM audit a LEFT JOIN users u ON u.id = a.user_id"""
PAGED = """
    AND (p_action IS NULL OR a.action = p_action) AND (p_before IS NULL OR a.id < p_before)
    AND (SELECT acting_end_user()) IS NULL
  ORDER BY a.id DESC LIMIT p_limit"""
OF_PROJECT = "read_audit(text, uuid, uuid, integer)"
OWN = "read_own_audit(text, uuid, integer)"


def make(columns: str, shown: str) -> None:
    for signature in (OF_PROJECT, OWN):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute(f"""
CREATE FUNCTION read_audit(p_action text, p_user uuid, p_before uuid, p_limit integer) RETURNS TABLE ({shown})
LANGUAGE sql STABLE {SECURED} AS $$ {columns} {FROM}
  WHERE a.project_id = (SELECT overseen_project())
    AND (p_user IS NULL OR (a.user_id = p_user AND a.credential_id <> {OPERATOR})) {PAGED}
$$""")
    op.execute(f"""
CREATE FUNCTION read_own_audit(p_action text, p_before uuid, p_limit integer) RETURNS TABLE ({shown})
LANGUAGE sql STABLE {SECURED} AS $$ {columns} {FROM}
  WHERE a.user_id = (SELECT acting_person()) {PAGED}
$$""")
    for signature in (OF_PROJECT, OWN):
        rls.allow(signature)


def upgrade() -> None:
    make(COLUMNS_BEFORE + SUBJECT, f"{SHOWN_BEFORE}, subject text")


def downgrade() -> None:
    make(COLUMNS_BEFORE, SHOWN_BEFORE)
