"""approvals, the pages' sessions, and what cleans up behind both"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
CREDENTIAL = "nullif(current_setting('app.credential_id', true), '')::uuid"
USER = "nullif(current_setting('app.user_id', true), '')::uuid"
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"

# The user behind a page's session; NULL to every other credential: keys see and decide nothing of a person's.
ACTING_PERSON = f"""
CREATE FUNCTION acting_person() RETURNS uuid LANGUAGE plpgsql STABLE PARALLEL SAFE {SECURED} AS $$
BEGIN
  RETURN (SELECT c.user_id FROM credentials c JOIN users u ON u.id = c.user_id
          WHERE c.id = {CREDENTIAL} AND c.user_id = {USER} AND c.kind = 'session' AND {LIVE});
END $$"""

# Uses a link up and opens a session of its user, both or neither. False: used, expired, or never one of ours.
OPEN_SESSION = f"""
CREATE FUNCTION open_session(p_link bytea, p_session uuid, p_hash bytea, p_hint text) RETURNS boolean
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

CLOSE_SESSION = f"""
CREATE FUNCTION close_session() RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE credentials SET revoked_at = now() WHERE id = {CREDENTIAL} AND kind = 'session' AND revoked_at IS NULL
$$"""

# Ops. At most p_limit rows of each kind a call, so that no call holds locks for long; answers how many there were.
# A used approval is kept for the 30 days in which it spares the next question; others, links and sessions for a day.
CLEAN_UP = f"""
CREATE FUNCTION clean_up(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH answers AS (
    DELETE FROM idempotency WHERE (credential_id, key) IN (
      SELECT credential_id, key FROM idempotency WHERE expires_at < now() LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), approved AS (
    DELETE FROM approvals WHERE id IN (
      SELECT id FROM approvals WHERE expires_at < now() - interval '1 day'
        AND (state <> 'used' OR used_at < now() - interval '30 days') LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), opened AS (
    DELETE FROM credentials WHERE id IN (
      SELECT id FROM credentials WHERE kind IN ('link', 'session') AND expires_at < now() - interval '1 day'
        LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM approved) + (SELECT count(*) FROM opened)
$$"""

BY_APP = {
    "acting_person()": ACTING_PERSON,
    "open_session(bytea, uuid, bytea, text)": OPEN_SESSION,
    "close_session()": CLOSE_SESSION,
}


def upgrade() -> None:
    op.add_column(
        "projects", sa.Column("approval_policy", sa.Text(), server_default=sa.text("'always'"), nullable=False)
    )
    op.create_check_constraint(
        op.f("projects_approval_policy_known"), "projects", "approval_policy IN ('always', 'when_new', 'never')"
    )
    op.drop_constraint(op.f("credentials_kind_known"), "credentials")
    op.create_check_constraint(op.f("credentials_kind_known"), "credentials", "kind IN ('secret', 'link', 'session')")
    op.create_table(
        "approvals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("through_run", sa.Boolean(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("arguments_digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "arguments", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "preview", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_through", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now() + interval '10 minutes'"),
            nullable=False,
        ),
        sa.Column("decided_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("used_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'denied', 'used', 'expired')", name=op.f("approvals_state_known")
        ),
        sa.CheckConstraint("decided_through IN ('elicitation', 'page')", name=op.f("approvals_decided_through_known")),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.id"], name=op.f("approvals_credential_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("approvals_pkey")),
    )
    op.create_index(
        "approvals_one_live",
        "approvals",
        ["credential_id", "end_user_id", "through_run", "tool", "arguments_digest"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("state IN ('pending', 'approved', 'denied')"),
    )
    op.create_index(
        "approvals_used_idx",
        "approvals",
        ["credential_id", "tool", "target"],
        postgresql_where=sa.text("state = 'used'"),
    )
    op.create_index(op.f("approvals_user_id_id_idx"), "approvals", ["user_id", "id"])
    op.create_index(op.f("approvals_project_id_id_idx"), "approvals", ["project_id", "id"])
    op.create_index(op.f("approvals_expires_at_idx"), "approvals", ["expires_at"])
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    op.execute(CLEAN_UP)
    rls.allow("clean_up(integer)", ops=True)
    protect()


def protect() -> None:
    """The caller sees and spends its own; a person sees what is asked in their projects, and decides where they write.

    Nobody rewrites what was asked: only the columns that a decision or a use changes may be updated.
    """
    own = (
        "credential_id = (SELECT acting_credential())"
        " AND ((SELECT acting_end_user()) IS NULL OR end_user_id = (SELECT acting_end_user()))"
    )
    theirs = "user_id = (SELECT acting_person())"
    member = "project_id IN (SELECT m.project_id FROM project_members m WHERE m.user_id = (SELECT acting_person())"
    rls.protect(
        "approvals",
        select=f"({own}) OR {theirs} OR {member})",
        insert=f"{own} AND user_id = (SELECT acting_user()) AND state = 'pending'",
        update=f"({own}) OR {theirs} OR {member} AND m.role <> 'viewer')",
        delete="false",
    )
    rls.grant(
        "SELECT, INSERT, UPDATE (state, decided_by, decided_through, decided_at, expires_at, used_at)", "approvals"
    )


def downgrade() -> None:
    op.drop_table("approvals")
    for signature in ("clean_up(integer)", *BY_APP):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DELETE FROM credentials WHERE kind <> 'secret'")
    op.drop_constraint(op.f("credentials_kind_known"), "credentials")
    op.create_check_constraint(op.f("credentials_kind_known"), "credentials", "kind IN ('secret')")
    op.drop_constraint(op.f("projects_approval_policy_known"), "projects")
    op.drop_column("projects", "approval_policy")
