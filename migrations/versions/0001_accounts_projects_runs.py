"""accounts, projects, runs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
SETTING = "nullif(current_setting('app.{}', true), '')::uuid"
CREDENTIAL, USER, END_USER, PROJECT = (
    SETTING.format(name) for name in ("credential_id", "user_id", "end_user_id", "project_id")
)
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"
ACTING = f"""
    FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.id = {CREDENTIAL} AND c.user_id = {USER} AND {LIVE}"""
MEMBER = f"""
    SELECT m.project_id
    FROM credentials c JOIN users u ON u.id = c.user_id JOIN project_members m ON m.user_id = c.user_id
    WHERE c.id = {CREDENTIAL} AND c.user_id = {USER} AND m.project_id = {PROJECT}
      AND (c.project_id IS NULL OR c.project_id = m.project_id) AND {LIVE}"""


def _lookup(name: str, returns: str, query: str) -> str:
    """A function of no arguments; PL/pgSQL because it keeps its plan for the session on every supported version."""
    return (
        f"CREATE FUNCTION {name}() RETURNS {returns} LANGUAGE plpgsql STABLE PARALLEL SAFE {SECURED}"
        f" AS $$ BEGIN RETURN ({query}); END $$"
    )


FUNCTIONS = (
    _lookup("acting_credential", "uuid", f"SELECT c.id {ACTING}"),
    _lookup("acting_user", "uuid", f"SELECT c.user_id {ACTING}"),
    _lookup("writing_user", "uuid", f"SELECT c.user_id {ACTING} AND NOT c.read_only"),
    _lookup("bound_project", "uuid", f"SELECT c.project_id {ACTING}"),
    _lookup(
        "acting_end_user",
        "uuid",
        f"coalesce((SELECT c.end_user_id FROM credentials c WHERE c.id = {CREDENTIAL}), {END_USER})",
    ),
    _lookup("readable_project", "uuid", MEMBER),
    _lookup("writable_project", "uuid", f"{MEMBER} AND m.role <> 'viewer' AND NOT c.read_only"),
    _lookup("administered_project", "uuid", f"{MEMBER} AND m.role IN ('owner', 'admin') AND NOT c.read_only"),
    f"""
    CREATE FUNCTION authenticate(presented bytea)
    RETURNS TABLE (credential_id uuid, user_id uuid, project_id uuid, end_user_id uuid, kind text, scopes text[],
                   read_only boolean, expires_at timestamptz)
    LANGUAGE sql STABLE {SECURED} AS $$
      SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, c.scopes, c.read_only, c.expires_at
      FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.token_hash = presented AND {LIVE}
    $$""",
    f"""
    CREATE FUNCTION credential_lifetime(credential uuid) RETURNS TABLE (expires_at timestamptz)
    LANGUAGE sql STABLE {SECURED} AS $$
      SELECT c.expires_at FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.id = credential AND {LIVE}
    $$""",
    f"""
    CREATE FUNCTION make_creator_owner() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
    BEGIN
      INSERT INTO project_members (user_id, project_id, role) VALUES (NEW.created_by, NEW.id, 'owner');
      RETURN NULL;
    END $$""",
    f"""
    CREATE FUNCTION tell_revoked() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
    BEGIN
      PERFORM pg_notify('innkeeper_revoked', TG_ARGV[0] || ':' || OLD.id::text);
      RETURN NULL;
    END $$""",
)
FUNCTION_NAMES = (
    "acting_credential",
    "acting_user",
    "writing_user",
    "bound_project",
    "acting_end_user",
    "readable_project",
    "writable_project",
    "administered_project",
    "authenticate",
    "credential_lifetime",
    "make_creator_owner",
    "tell_revoked",
)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_index(op.f("audit_project_id_id_idx"), "audit", ["project_id", "id"], unique=False)
    op.create_index(op.f("audit_user_id_id_idx"), "audit", ["user_id", "id"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
        sa.UniqueConstraint("email", name=op.f("users_email_key")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instructions", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("base_url", sa.Text(), nullable=True),
        sa.Column("max_input_tokens", sa.Integer(), nullable=True),
        sa.Column("tool_call_limit", sa.Integer(), server_default=sa.text("100"), nullable=False),
        sa.Column("allow_prompt_override", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "model_parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("projects_created_by_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("projects_pkey")),
    )
    op.create_index(op.f("projects_created_by_idx"), "projects", ["created_by"], unique=False)
    op.create_table(
        "end_users",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("end_users_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("end_users_pkey")),
        sa.UniqueConstraint("project_id", "external_id", name=op.f("end_users_project_id_external_id_key")),
    )
    op.create_table(
        "project_members",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name=op.f("project_members_role_known")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("project_members_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("project_members_user_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "project_id", name=op.f("project_members_pkey")),
    )
    op.create_index(op.f("project_members_project_id_idx"), "project_members", ["project_id"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("'secret'"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("read_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('secret')", name=op.f("credentials_kind_known")),
        sa.CheckConstraint(
            "end_user_id IS NULL OR project_id IS NOT NULL", name=op.f("credentials_end_user_of_project")
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "end_user_id"],
            ["end_users.project_id", "end_users.id"],
            name=op.f("credentials_project_id_end_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("credentials_user_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("credentials_pkey")),
        sa.UniqueConstraint("token_hash", name=op.f("credentials_token_hash_key")),
    )
    op.create_index(op.f("credentials_project_id_idx"), "credentials", ["project_id"], unique=False)
    op.create_index(op.f("credentials_user_id_idx"), "credentials", ["user_id"], unique=False)
    op.create_table(
        "threads",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column(
            "metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "end_user_id"],
            ["end_users.project_id", "end_users.id"],
            name=op.f("threads_project_id_end_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("threads_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("threads_pkey")),
        sa.UniqueConstraint(
            "project_id",
            "end_user_id",
            "external_id",
            name=op.f("threads_project_id_end_user_id_external_id_key"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "idempotency",
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("arguments_digest", sa.LargeBinary(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now() + interval '24 hours'"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.id"], name=op.f("idempotency_credential_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("credential_id", "key", name=op.f("idempotency_pkey")),
    )
    op.create_index(op.f("idempotency_expires_at_idx"), "idempotency", ["expires_at"], unique=False)
    op.create_table(
        "runs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("thread_id", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("on_disconnect", sa.Text(), server_default=sa.text("'continue'"), nullable=False),
        sa.Column(
            "input", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("input_digest", sa.LargeBinary(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tool_calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.Uuid(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("on_disconnect IN ('continue', 'cancel')", name=op.f("runs_on_disconnect_known")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted')",
            name=op.f("runs_status_known"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "end_user_id"],
            ["end_users.project_id", "end_users.id"],
            name=op.f("runs_project_id_end_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "thread_id"],
            ["threads.project_id", "threads.id"],
            name=op.f("runs_project_id_thread_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("runs_project_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("runs_pkey")),
        sa.UniqueConstraint(
            "project_id",
            "end_user_id",
            "external_id",
            name=op.f("runs_project_id_end_user_id_external_id_key"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "runs_lease_idx",
        "runs",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "runs_one_live_per_thread",
        "runs",
        ["project_id", "thread_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("runs_thread_idx", "runs", ["project_id", "thread_id", "id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("thread_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column(
            "content", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"],
            ["runs.project_id", "runs.id"],
            name=op.f("messages_project_id_run_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "thread_id"],
            ["threads.project_id", "threads.id"],
            name=op.f("messages_project_id_thread_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("messages_pkey")),
        sa.UniqueConstraint(
            "project_id", "thread_id", "position", name=op.f("messages_project_id_thread_id_position_key")
        ),
    )
    op.create_index(op.f("messages_project_id_run_id_idx"), "messages", ["project_id", "run_id"], unique=False)
    op.create_table(
        "run_events",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"],
            ["runs.project_id", "runs.id"],
            name=op.f("run_events_project_id_run_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "run_id", "seq", name=op.f("run_events_pkey")),
    )
    for function in FUNCTIONS:
        op.execute(function)
    op.execute(
        "CREATE TRIGGER projects_creator AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION make_creator_owner()"
    )
    op.execute(
        "CREATE TRIGGER credentials_revoked AFTER UPDATE OR DELETE ON credentials"
        " FOR EACH ROW EXECUTE FUNCTION tell_revoked('credential')"
    )
    op.execute(
        "CREATE TRIGGER users_disabled AFTER UPDATE OR DELETE ON users"
        " FOR EACH ROW EXECUTE FUNCTION tell_revoked('user')"
    )
    for callable_by_app in (
        "authenticate(bytea)",
        "credential_lifetime(uuid)",
        "acting_credential()",
        "acting_user()",
        "writing_user()",
        "bound_project()",
        "acting_end_user()",
        "readable_project()",
        "writable_project()",
        "administered_project()",
    ):
        rls.allow(callable_by_app)
    for by_trigger_only in ("make_creator_owner()", "tell_revoked()"):
        op.execute(f"REVOKE ALL ON FUNCTION {by_trigger_only} FROM PUBLIC")
    for role in (rls.roles().app, rls.roles().ops):
        op.execute(f"GRANT USAGE ON SCHEMA public TO {rls.quoted(role)}")
    protect_account_tables()
    rls.protect_tenant("end_users", end_user=False)
    for table in ("threads", "runs", "messages", "run_events"):
        rls.protect_tenant(table, end_user=True)


def protect_account_tables() -> None:
    rls.protect("alembic_version", select="true", insert="false", update="false", delete="false")
    rls.grant("SELECT", "alembic_version")
    me = "id = (SELECT acting_user())"
    rls.protect("users", select=me, insert="false", update="id = (SELECT writing_user())", delete="false")
    rls.grant("SELECT, UPDATE (name)", "users")
    administered = "project_id = (SELECT administered_project())"
    mine = "user_id = (SELECT acting_user()) AND project_id = coalesce((SELECT bound_project()), project_id)"
    rls.protect(
        "project_members",
        select=f"({mine}) OR project_id = (SELECT readable_project())",
        insert=administered,
        update=administered,
        delete=administered,
    )
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "project_members")
    member = (
        "EXISTS (SELECT FROM project_members m WHERE m.project_id = projects.id AND m.user_id = (SELECT acting_user())"
        " AND m.project_id = coalesce((SELECT bound_project()), m.project_id))"
    )
    rls.protect(
        "projects",
        select=f"id = (SELECT readable_project()) OR {member}",
        insert="created_by = (SELECT writing_user()) AND (SELECT bound_project()) IS NULL",
        update="id = (SELECT administered_project())",
        delete="id = (SELECT administered_project())",
    )
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "projects")
    rls.protect(
        "credentials",
        select=f"user_id = (SELECT acting_user()) OR {administered}",
        insert="false",
        update="false",
        delete="false",
    )
    rls.grant(
        "SELECT (id, kind, user_id, project_id, end_user_id, name, hint, scopes, read_only, created_at, expires_at,"
        " revoked_at)",
        "credentials",
    )
    own = "credential_id = (SELECT acting_credential())"
    rls.protect("idempotency", select=own, insert=own, update=own, delete=own)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "idempotency")
    rls.protect(
        "audit",
        select=f"user_id = (SELECT acting_user()) OR {administered}",
        insert=f"{own} AND user_id = (SELECT acting_user())",
        update="false",
        delete="false",
    )
    rls.grant("SELECT, INSERT", "audit")


def downgrade() -> None:
    op.drop_table("run_events")
    op.drop_index(op.f("messages_project_id_run_id_idx"), table_name="messages")
    op.drop_table("messages")
    op.drop_index("runs_thread_idx", table_name="runs")
    op.drop_index(
        "runs_one_live_per_thread", table_name="runs", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_index("runs_lease_idx", table_name="runs", postgresql_where=sa.text("status IN ('queued', 'running')"))
    op.drop_table("runs")
    op.drop_index(op.f("idempotency_expires_at_idx"), table_name="idempotency")
    op.drop_table("idempotency")
    op.drop_table("threads")
    op.drop_index(op.f("credentials_user_id_idx"), table_name="credentials")
    op.drop_index(op.f("credentials_project_id_idx"), table_name="credentials")
    op.drop_table("credentials")
    op.drop_index(op.f("project_members_project_id_idx"), table_name="project_members")
    op.drop_table("project_members")
    op.drop_table("end_users")
    op.drop_index(op.f("projects_created_by_idx"), table_name="projects")
    op.drop_table("projects")
    op.drop_table("users")
    op.drop_index(op.f("audit_user_id_id_idx"), table_name="audit")
    op.drop_index(op.f("audit_project_id_id_idx"), table_name="audit")
    op.drop_table("audit")
    for name in FUNCTION_NAMES:
        op.execute(f"DROP FUNCTION {name}")
