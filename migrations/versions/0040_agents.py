"""agents: what differs between the runs of a project, and a default one in each"""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0040"
down_revision = "0008"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

MAKE_DEFAULT_AGENT = f"""
CREATE FUNCTION make_default_agent() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  INSERT INTO agents (project_id, id, name, description)
    VALUES (NEW.id, NEW.id, 'default', 'Answers with the project''s model and uses the tools its caller may use.');
  RETURN NULL;
END $$"""

# As in 0002, and with the agent: its row as JSON, NULL for the scripted one, which has none.
BEGIN_RUN = """
CREATE FUNCTION begin_run(
  p_project uuid, p_end_user uuid, p_thread uuid, p_thread_external text, p_run uuid, p_run_external text,
  p_credential uuid, p_user uuid, p_scopes text[], p_agent text, p_on_disconnect text, p_input text, p_digest bytea,
  p_owner uuid, p_lease interval, p_started bytea,
  OUT outcome text, OUT run_id uuid, OUT thread_id uuid, OUT on_disconnect text, OUT history text,
  OUT settings text, OUT agent text
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
DECLARE
  known record;
  chosen agents%ROWTYPE;
BEGIN
  SELECT to_jsonb(p)::text INTO settings FROM projects p WHERE p.id = p_project;
  IF NOT FOUND THEN
    outcome := 'unknown_project';
    RETURN;
  END IF;
  SELECT * INTO chosen FROM agents a WHERE a.project_id = p_project AND a.name = p_agent;
  IF FOUND THEN
    agent := to_jsonb(chosen)::text;
  ELSIF p_agent <> 'demo' THEN
    outcome := 'unknown_agent';
    RETURN;
  END IF;
  FOR attempt IN 1..2 LOOP
    SELECT r.id, r.thread_id, r.input_digest, r.on_disconnect INTO known FROM runs r
      WHERE r.project_id = p_project AND r.external_id = p_run_external
        AND r.end_user_id IS NOT DISTINCT FROM p_end_user;
    IF FOUND THEN
      outcome := CASE WHEN known.input_digest = p_digest THEN 'attached' ELSE 'conflict' END;
      run_id := known.id; thread_id := known.thread_id; on_disconnect := known.on_disconnect;
      RETURN;
    END IF;
    EXIT WHEN attempt = 2;
    -- The thread's row is the lock: two runs of one thread, and two of one run id in it, queue up here.
    INSERT INTO threads AS t (project_id, id, end_user_id, external_id)
      VALUES (p_project, p_thread, p_end_user, p_thread_external)
      ON CONFLICT (project_id, end_user_id, external_id) DO UPDATE SET updated_at = now()
      RETURNING t.id INTO thread_id;
  END LOOP;
  SELECT r.id INTO run_id FROM runs r
    WHERE r.project_id = p_project AND r.thread_id = begin_run.thread_id AND r.status IN ('queued', 'running');
  IF FOUND THEN
    outcome := 'busy';
    RETURN;
  END IF;
  INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, scopes, agent,
      agent_id, status, on_disconnect, input, input_digest, last_seq, lease_owner, lease_epoch, lease_expires_at,
      started_at)
    VALUES (p_project, p_run, begin_run.thread_id, p_end_user, p_run_external, p_credential, p_user, p_scopes, p_agent,
      chosen.id, 'running', p_on_disconnect, p_input::jsonb, p_digest, 1, p_owner, 1, clock_timestamp() + p_lease,
      clock_timestamp())
    ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    -- The same run id was started in another thread meanwhile: its input differs, for the thread is part of it.
    outcome := 'conflict';
    RETURN;
  END IF;
  INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
    VALUES (p_project, p_run, 1, p_end_user, p_started);
  outcome := 'started'; run_id := p_run; on_disconnect := p_on_disconnect;
  SELECT coalesce(jsonb_agg(m.content ORDER BY m.position), '[]')::text INTO history FROM messages m
    WHERE m.project_id = p_project AND m.thread_id = begin_run.thread_id;
END $$"""
SIGNATURE = (
    "begin_run(uuid, uuid, uuid, text, uuid, text, uuid, uuid, text[], text, text, text, bytea, uuid, interval, bytea)"
)
BEFORE: str = importlib.import_module("migrations.versions.0002_run_engine").BEGIN_RUN


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("instructions", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("fallback_models", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column(
            "model_parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("tools", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("skills", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column(
            "limits", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("agents_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("agents_pkey")),
        sa.UniqueConstraint("project_id", "name", name=op.f("agents_project_id_name_key")),
    )
    # Whoever reads the project may use its agents; who administers it says what they are.
    administered = "project_id = (SELECT administered_project())"
    rls.protect(
        "agents",
        select="project_id = (SELECT readable_project())",
        insert=administered,
        update=administered,
        delete=f"{administered} AND name <> 'default'",
    )
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "agents")
    op.execute(MAKE_DEFAULT_AGENT)
    op.execute("REVOKE ALL ON FUNCTION make_default_agent() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER projects_agent AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION make_default_agent()"
    )
    op.execute(
        "INSERT INTO agents (project_id, id, name, description)"
        " SELECT id, id, 'default', 'Answers with the project''s model and uses the tools its caller may use.'"
        " FROM projects"
    )
    op.add_column("runs", sa.Column("agent_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("runs_project_id_agent_id_fkey"),
        "runs",
        "agents",
        ["project_id", "agent_id"],
        ["project_id", "id"],
        ondelete="SET NULL (agent_id)",
    )
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.execute(BEGIN_RUN)
    rls.allow(SIGNATURE)
    # A key that may do everything there was may do everything there is.
    op.execute(
        "UPDATE credentials SET scopes = scopes || '{agents:read,agents:write}'::text[] WHERE scopes @>"
        " '{projects:read,projects:write,runs:read,runs:write}'::text[] AND NOT scopes && '{agents:read}'::text[]"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE credentials SET scopes = array_remove(array_remove(scopes, 'agents:read'), 'agents:write')"
        " WHERE scopes && '{agents:read,agents:write}'::text[]"
    )
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.execute(BEFORE)
    rls.allow(SIGNATURE)
    op.drop_constraint(op.f("runs_project_id_agent_id_fkey"), "runs")
    op.drop_column("runs", "agent_id")
    op.execute("DROP TRIGGER projects_agent ON projects")
    op.execute("DROP FUNCTION make_default_agent()")
    op.drop_table("agents")
