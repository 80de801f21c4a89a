"""reads that become their caller and read in one round trip"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The caller's settings are local to the transaction, which here is the statement itself: the next statement on the
# connection finds none of them, also after an error. PL/pgSQL runs the statements in order, each with a plan of its
# own, so the policies of the second see what the first has set. Not SECURITY DEFINER: row-level security decides.
BECOME = """
CREATE FUNCTION become(p_credential uuid, p_user uuid, p_end_user uuid, p_project uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_catalog.set_config('app.credential_id', p_credential::text, true),
          pg_catalog.set_config('app.user_id', p_user::text, true),
          pg_catalog.set_config('app.end_user_id', coalesce(p_end_user::text, ''), true),
          pg_catalog.set_config('app.project_id', coalesce(p_project::text, ''), true);
END $$"""
READ_PROJECT = """
CREATE FUNCTION read_project(p_credential uuid, p_user uuid, p_end_user uuid, p_project uuid)
RETURNS SETOF public.projects LANGUAGE plpgsql VOLATILE ROWS 1 AS $$
BEGIN
  PERFORM public.become(p_credential, p_user, p_end_user, p_project);
  RETURN QUERY SELECT * FROM public.projects WHERE id = p_project;
END $$"""
FUNCTIONS = {"become(uuid, uuid, uuid, uuid)": BECOME, "read_project(uuid, uuid, uuid, uuid)": READ_PROJECT}


def upgrade() -> None:
    for signature, body in FUNCTIONS.items():
        op.execute(body)
        rls.allow(signature)


def downgrade() -> None:
    for signature in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
