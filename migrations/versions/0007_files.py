"""files: what a project stores, how much of it there is, and reads of both in one round trip"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Keeps project_storage the sum of the files that count: all but those that are being deleted. Once a statement, so that
# a project of a million files goes in one step. The row's lock is what makes the quota hold between transactions.
COUNT_STORED = f"""
CREATE FUNCTION count_stored() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO project_storage AS s (project_id, bytes, files)
      SELECT f.project_id, sum(f.size), count(*) FROM added f WHERE f.status <> 'deleting' GROUP BY f.project_id
      ON CONFLICT (project_id) DO UPDATE SET bytes = s.bytes + excluded.bytes, files = s.files + excluded.files;
  ELSIF TG_OP = 'DELETE' THEN
    UPDATE project_storage s SET bytes = s.bytes - g.bytes, files = s.files - g.files
      FROM (SELECT f.project_id, sum(f.size) AS bytes, count(*) AS files FROM removed f
            WHERE f.status <> 'deleting' GROUP BY f.project_id) g
      WHERE s.project_id = g.project_id;
  ELSE
    UPDATE project_storage s SET bytes = s.bytes + g.bytes, files = s.files + g.files
      FROM (SELECT f.project_id, sum(f.size * f.sign) AS bytes, sum(f.sign) AS files
            FROM (SELECT project_id, size, status, 1 AS sign FROM added
                  UNION ALL SELECT project_id, size, status, -1 FROM removed) f
            WHERE f.status <> 'deleting' GROUP BY f.project_id) g
      WHERE s.project_id = g.project_id AND (g.bytes <> 0 OR g.files <> 0);
  END IF;
  RETURN NULL;
END $$"""
EACH = "FOR EACH STATEMENT EXECUTE FUNCTION count_stored()"
TRIGGERS = (
    f"CREATE TRIGGER files_added AFTER INSERT ON files REFERENCING NEW TABLE AS added {EACH}",
    f"CREATE TRIGGER files_changed AFTER UPDATE ON files REFERENCING OLD TABLE AS removed NEW TABLE AS added {EACH}",
    f"CREATE TRIGGER files_removed AFTER DELETE ON files REFERENCING OLD TABLE AS removed {EACH}",
)

# A file that is expected, in the one round trip of its transaction. Whoever calls rolls back unless it was 'added'.
ADD_FILE = """
CREATE FUNCTION add_file(
  p_project uuid, p_id uuid, p_path text, p_size bigint, p_content_type text, p_sha256 bytea, p_temporary boolean,
  p_seconds integer, p_metadata jsonb, p_user uuid, p_credential uuid, p_run uuid, p_quota bigint,
  OUT outcome text, OUT used bigint, OUT quota bigint, OUT added_at timestamptz, OUT due_at timestamptz
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
DECLARE
  theirs uuid := acting_end_user();
BEGIN
  IF readable_project() IS DISTINCT FROM p_project THEN
    outcome := 'project_not_found';
  ELSIF writable_project() IS DISTINCT FROM p_project THEN
    outcome := 'role_insufficient';
  ELSIF EXISTS (SELECT FROM files f WHERE f.project_id = p_project AND f.end_user_id IS NOT DISTINCT FROM theirs
                AND f.path = p_path AND f.status = 'ready') THEN
    outcome := 'path_taken';
  ELSE
    INSERT INTO files (project_id, id, end_user_id, path, size, content_type, sha256, temporary, expires_at, metadata,
        created_by, credential_id, run_id)
      VALUES (p_project, p_id, theirs, p_path, p_size, p_content_type, p_sha256, p_temporary,
        now() + make_interval(secs => p_seconds), p_metadata, p_user, p_credential, p_run)
      RETURNING created_at, expires_at INTO added_at, due_at;
    SELECT s.bytes, coalesce(s.quota, p_quota) INTO used, quota FROM project_storage s WHERE s.project_id = p_project;
    outcome := CASE WHEN used > quota THEN 'quota_exceeded' ELSE 'added' END;
  END IF;
END $$"""

READ_FILE = """
CREATE FUNCTION read_file(p_credential uuid, p_user uuid, p_end_user uuid, p_project uuid, p_file uuid)
RETURNS SETOF public.files LANGUAGE plpgsql VOLATILE ROWS 1 AS $$
BEGIN
  PERFORM public.become(p_credential, p_user, p_end_user, p_project);
  RETURN QUERY SELECT * FROM public.files f
    WHERE f.project_id = p_project AND f.id = p_file AND f.status <> 'deleting';
END $$"""

# Files in the order of their paths, which are compared byte by byte: after (p_path, p_after), before p_below.
READ_FILES = """
CREATE FUNCTION read_files(
  p_credential uuid, p_user uuid, p_end_user uuid, p_project uuid, p_path text, p_after uuid, p_below text,
  p_limit integer
) RETURNS SETOF public.files LANGUAGE plpgsql VOLATILE ROWS 25 AS $$
BEGIN
  PERFORM public.become(p_credential, p_user, p_end_user, p_project);
  RETURN QUERY SELECT * FROM public.files f
    WHERE f.project_id = p_project AND (f.path, f.id) > (p_path, p_after) AND f.path < p_below
      AND f.status <> 'deleting'
    ORDER BY f.path, f.id LIMIT p_limit;
END $$"""

# Ops. Ids only: where there are files whose time has come.
PROJECTS_WITH_DUE_FILES = f"""
CREATE FUNCTION projects_with_due_files(p_limit integer) RETURNS SETOF uuid LANGUAGE sql STABLE {SECURED} AS $$
  SELECT DISTINCT f.project_id FROM files f WHERE f.expires_at < now() AND f.status <> 'deleting' LIMIT p_limit
$$"""

APP_FUNCTIONS = {
    "add_file(uuid, uuid, text, bigint, text, bytea, boolean, integer, jsonb, uuid, uuid, uuid, bigint)": ADD_FILE,
    "read_file(uuid, uuid, uuid, uuid, uuid)": READ_FILE,
    "read_files(uuid, uuid, uuid, uuid, text, uuid, text, integer)": READ_FILES,
}


def upgrade() -> None:
    op.create_table(
        "project_storage",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("files", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("quota", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("project_storage_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("project_storage_pkey")),
    )
    op.create_table(
        "files",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("temporary", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column(
            "metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'ready', 'lost', 'deleting')", name=op.f("files_status_known")),
        sa.CheckConstraint("size >= 0", name=op.f("files_size_known")),
        sa.CheckConstraint("octet_length(path) <= 512", name=op.f("files_path_short")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("files_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "end_user_id"],
            ["end_users.project_id", "end_users.id"],
            name=op.f("files_project_id_end_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("files_pkey")),
    )
    op.create_index(
        "files_one_ready_at_a_path",
        "files",
        ["project_id", "end_user_id", "path"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("status = 'ready'"),
    )
    op.create_index(op.f("files_project_id_path_id_idx"), "files", ["project_id", "path", "id"])
    op.create_index(
        "files_due_idx", "files", ["expires_at", "project_id"], postgresql_where=sa.text("status <> 'deleting'")
    )
    rls.protect_tenant("files", end_user=True)
    # Read by whoever reads the project; written by the trigger alone, and its quota by the owner.
    rls.protect(
        "project_storage",
        select="project_id = (SELECT readable_project())",
        insert="false",
        update="false",
        delete="false",
    )
    rls.grant("SELECT", "project_storage")
    op.execute(COUNT_STORED)
    rls.allow("count_stored()")
    for trigger in TRIGGERS:
        op.execute(trigger)
    for signature, body in APP_FUNCTIONS.items():
        op.execute(body)
        rls.allow(signature)
    # A key that may do everything there was may do everything there is.
    op.execute(
        "UPDATE credentials SET scopes = scopes || '{storage:read,storage:write}'::text[] WHERE scopes @>"
        " '{projects:read,projects:write,runs:read,runs:write}'::text[] AND NOT scopes && '{storage:read}'::text[]"
    )
    op.execute(PROJECTS_WITH_DUE_FILES)
    rls.allow("projects_with_due_files(integer)", ops=True)


def downgrade() -> None:
    op.execute(
        "UPDATE credentials SET scopes = array_remove(array_remove(scopes, 'storage:read'), 'storage:write')"
        " WHERE scopes && '{storage:read,storage:write}'::text[]"
    )
    op.execute("DROP FUNCTION projects_with_due_files(integer)")
    for signature in reversed(APP_FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_table("files")
    op.execute("DROP FUNCTION count_stored()")
    op.drop_table("project_storage")
