"""durable runs: a journal of finished steps, queues of threads, taking over and handing over"""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0041"
down_revision = "0035"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
AS_CALLER = "SET search_path = pg_catalog, public"

# RUN_FINISHED of a run that nobody holds, as agents/agui.py encodes it.
CANCELLED_EVENT = f"""
CREATE FUNCTION cancelled_event(p_thread text, p_run text) RETURNS bytea LANGUAGE sql STABLE {AS_CALLER} AS $$
  SELECT convert_to('{{"type":"RUN_FINISHED","threadId":' || to_json(p_thread) || ',"runId":' || to_json(p_run)
    || ',"outcome":{{"type":"cancelled"}},"timestamp":'
    || floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint || '}}', 'UTF8')
$$"""

# Ends runs that wait in the queue of a thread: nobody holds them, so whoever asks writes their last event. Runs that
# somebody holds are marked, and told. Runs as whoever calls it.
STOP_RUNS = f"""
CREATE FUNCTION stop_runs(p_project uuid, p_runs uuid[]) RETURNS integer LANGUAGE plpgsql VOLATILE {AS_CALLER} AS $$
DECLARE
  found_run record;
  stopped integer := 0;
BEGIN
  FOR found_run IN
    SELECT r.id, r.status, r.last_seq, r.end_user_id, r.external_id, t.external_id AS thread
    FROM runs r JOIN threads t ON t.project_id = r.project_id AND t.id = r.thread_id
    WHERE r.project_id = p_project AND r.id = ANY (p_runs) AND r.status IN ('queued', 'running')
    ORDER BY r.id FOR UPDATE OF r
  LOOP
    stopped := stopped + 1;
    IF found_run.status = 'running' THEN
      UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp())
        WHERE r.project_id = p_project AND r.id = found_run.id;
      PERFORM pg_notify('innkeeper_cancel', found_run.id::text);
    ELSE
      UPDATE runs r SET status = 'cancelled', outcome = '{{"type": "cancelled"}}', last_seq = found_run.last_seq + 1,
          cancel_requested_at = clock_timestamp(), ended_at = clock_timestamp()
        WHERE r.project_id = p_project AND r.id = found_run.id;
      INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
        VALUES (p_project, found_run.id, found_run.last_seq + 1, found_run.end_user_id,
          cancelled_event(found_run.thread, found_run.external_id));
      PERFORM pg_notify('innkeeper_runs', found_run.id::text);
    END IF;
  END LOOP;
  RETURN stopped;
END $$"""

# As the caller: row-level security decides what it sees and writes. The thread's row is the lock under which it is
# decided whether a run starts, waits, or is refused.
BEGIN_RUN = f"""
CREATE FUNCTION begin_run(
  p_project uuid, p_end_user uuid, p_thread uuid, p_thread_external text, p_run uuid, p_run_external text,
  p_credential uuid, p_user uuid, p_scopes text[], p_rights text, p_depth integer, p_parent uuid, p_agent text,
  p_on_disconnect text, p_on_busy text, p_most_waiting integer, p_input text, p_digest bytea, p_owner uuid,
  p_lease interval, p_started bytea,
  OUT outcome text, OUT run_id uuid, OUT thread_id uuid, OUT on_disconnect text, OUT history text,
  OUT settings text, OUT agent text, OUT seconds double precision
) LANGUAGE plpgsql VOLATILE {AS_CALLER} AS $$
DECLARE
  known record;
  chosen agents%ROWTYPE;
  others uuid[];
  running boolean;
  ends timestamptz;
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
  IF p_on_busy = 'interrupt' THEN
    -- Held still: none of them may start or end while it is decided.
    PERFORM FROM runs r WHERE r.project_id = p_project AND r.thread_id = begin_run.thread_id
      AND r.status IN ('queued', 'running') ORDER BY r.id FOR UPDATE;
  END IF;
  SELECT array_agg(r.id), bool_or(r.status = 'running') INTO others, running FROM runs r
    WHERE r.project_id = p_project AND r.thread_id = begin_run.thread_id AND r.status IN ('queued', 'running');
  IF others IS NOT NULL THEN
    IF p_on_busy = 'reject' THEN
      outcome := 'busy';
      RETURN;
    ELSIF p_on_busy = 'interrupt' THEN
      PERFORM stop_runs(p_project, others);
    ELSIF cardinality(others) - running::integer >= p_most_waiting THEN
      outcome := 'queue_full';
      RETURN;
    END IF;
  END IF;
  outcome := CASE WHEN others IS NULL OR (p_on_busy = 'interrupt' AND NOT running) THEN 'started' ELSE 'queued' END;
  seconds := coalesce(nullif(chosen.limits ->> 'seconds', '')::double precision, 600);
  IF p_parent IS NOT NULL THEN
    -- A run ends when the one that started it has to, at the latest.
    SELECT r.deadline_at INTO ends FROM runs r WHERE r.project_id = p_project AND r.id = p_parent;
    IF ends IS NOT NULL THEN
      seconds := least(seconds, greatest(extract(epoch FROM ends - clock_timestamp())::double precision, 0));
    END IF;
  END IF;
  INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, scopes, rights, depth,
      parent_id, agent, agent_id, status, on_disconnect, input, input_digest, last_seq, lease_owner, lease_epoch,
      lease_expires_at, seconds, created_at, started_at, deadline_at)
    SELECT p_project, p_run, begin_run.thread_id, p_end_user, p_run_external, p_credential, p_user, p_scopes,
      p_rights::jsonb, p_depth, p_parent, p_agent, chosen.id, s.status, p_on_disconnect, p_input::jsonb, p_digest, 1,
      s.owner, s.epoch, s.moment + p_lease, begin_run.seconds, clock_timestamp(), s.moment,
      s.moment + make_interval(secs => begin_run.seconds)
    FROM (SELECT 'running' AS status, p_owner AS owner, 1 AS epoch, clock_timestamp() AS moment
            WHERE begin_run.outcome = 'started'
          UNION ALL SELECT 'queued', NULL, 0, NULL WHERE begin_run.outcome = 'queued') s
    ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    -- The same run id was started in another thread meanwhile: its input differs, for the thread is part of it.
    outcome := 'conflict';
    RETURN;
  END IF;
  INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
    VALUES (p_project, p_run, 1, p_end_user, p_started);
  run_id := p_run; on_disconnect := p_on_disconnect;
  IF outcome = 'started' THEN
    SELECT coalesce(jsonb_agg(m.content ORDER BY m.position), '[]')::text INTO history FROM messages m
      WHERE m.project_id = p_project AND m.thread_id = begin_run.thread_id;
  END IF;
END $$"""

# One transaction for many runs: events, and steps that ended with them. Each run's are fenced by its lease and follow
# its last event without a gap. Returns only the runs it refused: with a NULL the lease is gone, else where their log
# stands. A step that is there already stays as it is: the same batch was written before.
APPEND_EVENTS = f"""
CREATE FUNCTION append_events(
  p_owner uuid, p_projects uuid[], p_runs uuid[], p_epochs integer[], p_firsts bigint[], p_lasts bigint[],
  p_event_runs uuid[], p_seqs bigint[], p_events bytea[], p_step_runs uuid[], p_steps text[], p_values bytea[],
  p_tell text, p_relaxed boolean
) RETURNS TABLE (run_id uuid, last_seq bigint) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
#variable_conflict use_column
BEGIN
  IF p_relaxed THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
  IF p_tell <> '' THEN
    PERFORM pg_notify('innkeeper_runs', p_tell);
  END IF;
  RETURN QUERY
    WITH wanted AS (
      SELECT * FROM unnest(p_projects, p_runs, p_epochs, p_firsts, p_lasts)
        AS w (project_id, run_id, epoch, first, last)
    ), fenced AS (
      UPDATE runs r SET last_seq = w.last FROM wanted w
      WHERE r.project_id = w.project_id AND r.id = w.run_id AND r.status = 'running'
        AND r.lease_owner = p_owner AND r.lease_epoch = w.epoch AND r.last_seq = w.first - 1
      RETURNING r.project_id, r.id, r.end_user_id, r.last_seq
    ), written AS (
      INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
      SELECT f.project_id, f.id, i.seq, f.end_user_id, i.event
      FROM unnest(p_event_runs, p_seqs, p_events) AS i (run_id, seq, event) JOIN fenced f ON f.id = i.run_id
    ), ended AS (
      INSERT INTO run_steps (project_id, run_id, name, end_user_id, seq, value)
      SELECT f.project_id, f.id, i.name, f.end_user_id, f.last_seq, i.value
      FROM unnest(p_step_runs, p_steps, p_values) AS i (run_id, name, value) JOIN fenced f ON f.id = i.run_id
      ON CONFLICT DO NOTHING
    )
    SELECT w.run_id, r.last_seq FROM wanted w
    LEFT JOIN runs r ON r.project_id = w.project_id AND r.id = w.run_id AND r.status = 'running'
      AND r.lease_owner = p_owner AND r.lease_epoch = w.epoch
    WHERE NOT EXISTS (SELECT FROM fenced f WHERE f.project_id = w.project_id AND f.id = w.run_id);
END $$"""

# The end of a run: its last events and steps, its messages, what it used, and the lease given back, in one
# transaction; who waits in its thread's queue is called. Answers NULL when done (also when the same call was done
# before), -1 when the lease is gone, else the log's last seq.
FINISH_RUN = f"""
CREATE FUNCTION finish_run(
  p_owner uuid, p_project uuid, p_run uuid, p_epoch integer, p_first bigint, p_events bytea[], p_steps text[],
  p_values bytea[], p_status text, p_error_code text, p_outcome text, p_model text, p_requests integer,
  p_tool_calls integer, p_input_tokens bigint, p_output_tokens bigint, p_cost numeric, p_messages uuid[],
  p_roles text[], p_contents text[]
) RETURNS bigint LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  found_run runs%ROWTYPE;
  base bigint;
BEGIN
  SELECT * INTO found_run FROM runs r WHERE r.project_id = p_project AND r.id = p_run FOR UPDATE;
  IF NOT FOUND OR found_run.lease_epoch <> p_epoch THEN
    RETURN -1;
  END IF;
  IF found_run.status <> 'running' THEN
    RETURN CASE WHEN found_run.status = p_status AND found_run.last_seq = p_first - 1 + cardinality(p_events)
      THEN NULL ELSE -1 END;
  END IF;
  IF found_run.lease_owner IS DISTINCT FROM p_owner THEN
    RETURN -1;
  END IF;
  IF found_run.last_seq <> p_first - 1 THEN
    RETURN found_run.last_seq;
  END IF;
  UPDATE runs r SET status = p_status, error_code = p_error_code, outcome = p_outcome::jsonb, model = p_model,
      requests = p_requests, tool_calls = p_tool_calls, input_tokens = p_input_tokens,
      output_tokens = p_output_tokens, cost_usd = p_cost, last_seq = p_first - 1 + cardinality(p_events),
      lease_owner = NULL, lease_expires_at = NULL, ended_at = clock_timestamp()
    WHERE r.project_id = p_project AND r.id = p_run;
  INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
    SELECT p_project, p_run, p_first - 1 + e.n, found_run.end_user_id, e.event
    FROM unnest(p_events) WITH ORDINALITY AS e (event, n);
  INSERT INTO run_steps (project_id, run_id, name, end_user_id, seq, value)
    SELECT p_project, p_run, s.name, found_run.end_user_id, p_first - 1 + cardinality(p_events), s.value
    FROM unnest(p_steps, p_values) AS s (name, value) ON CONFLICT DO NOTHING;
  SELECT coalesce(max(m.position), 0) INTO base FROM messages m
    WHERE m.project_id = p_project AND m.thread_id = found_run.thread_id;
  INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role, content)
    SELECT p_project, m.id, found_run.thread_id, p_run, found_run.end_user_id, base + m.n, m.role, m.content::jsonb
    FROM unnest(p_messages, p_roles, p_contents) WITH ORDINALITY AS m (id, role, content, n);
  PERFORM pg_notify('innkeeper_runs', p_run::text);
  IF EXISTS (SELECT FROM runs r WHERE r.project_id = p_project AND r.thread_id = found_run.thread_id
             AND r.status = 'queued') THEN
    PERFORM pg_notify('innkeeper_waiting', '');
  END IF;
  RETURN NULL;
END $$"""

# Ops: ids and leases only. Takes what nobody holds: runs whose process is gone or hands them over, and the first in
# the queue of each thread that has no run. A higher epoch fences whoever still believes to hold the lease; it is told.
CLAIM_RUNS = f"""
CREATE FUNCTION claim_runs(p_owner uuid, p_lease interval, p_limit integer)
RETURNS TABLE (project_id uuid, run_id uuid, epoch integer, credential_id uuid, user_id uuid, end_user_id uuid)
LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH orphaned AS (
    SELECT r.project_id, r.id FROM runs r
    WHERE r.status = 'running' AND r.lease_expires_at < clock_timestamp()
    ORDER BY r.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), waiting AS (
    SELECT q.project_id, q.id FROM runs q
    WHERE q.status = 'queued'
      AND NOT EXISTS (SELECT FROM runs r WHERE r.project_id = q.project_id AND r.thread_id = q.thread_id
        AND (r.status = 'running' OR (r.status = 'queued' AND (r.created_at, r.id) < (q.created_at, q.id))))
    ORDER BY q.created_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), claimed AS (
    UPDATE runs r SET status = 'running', lease_owner = p_owner, lease_epoch = r.lease_epoch + 1,
      lease_expires_at = clock_timestamp() + p_lease, started_at = coalesce(r.started_at, clock_timestamp()),
      deadline_at = coalesce(r.deadline_at, clock_timestamp() + make_interval(secs => r.seconds))
    FROM (SELECT * FROM orphaned UNION ALL SELECT * FROM waiting) d
    WHERE r.project_id = d.project_id AND r.id = d.id
    RETURNING r.project_id, r.id, r.lease_epoch, r.credential_id, r.user_id, r.end_user_id
  ), told AS (
    SELECT pg_notify('innkeeper_claimed', c.id::text || ' ' || c.lease_epoch) FROM claimed c WHERE c.lease_epoch > 1
  )
  SELECT c.project_id, c.id, c.lease_epoch, c.credential_id, c.user_id, c.end_user_id FROM claimed c
  WHERE (SELECT count(*) FROM told) >= 0
$$"""

# Ops. A process that ends offers what it holds; until somebody takes a run it may go on with it.
HAND_OVER_RUNS = f"""
CREATE FUNCTION hand_over_runs(p_owner uuid) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH offered AS (
    UPDATE runs r SET lease_expires_at = clock_timestamp() - interval '1 second'
    WHERE r.lease_owner = p_owner AND r.status = 'running' RETURNING 1
  )
  SELECT count(*) FROM offered, LATERAL (SELECT pg_notify('innkeeper_waiting', '')) n
$$"""

# Ops. Asks for the end of every live run of a project, and says how many there are.
CANCEL_PROJECT_RUNS = f"""
CREATE FUNCTION cancel_project_runs(p_project uuid) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  SELECT stop_runs(p_project, array(SELECT r.id FROM runs r
    WHERE r.project_id = p_project AND r.status IN ('queued', 'running')))
$$"""

# Runs as the caller. False: no such live run, or not the caller's.
REQUEST_CANCEL = f"""
CREATE FUNCTION request_cancel(p_project uuid, p_run uuid) RETURNS boolean LANGUAGE sql VOLATILE {AS_CALLER} AS $$
  SELECT stop_runs(p_project, ARRAY[p_run]) > 0
$$"""

BEGIN_SIGNATURE = (
    "begin_run(uuid, uuid, uuid, text, uuid, text, uuid, uuid, text[], text, integer, uuid, text, text, text, integer,"
    " text, bytea, uuid, interval, bytea)"
)
APPEND_SIGNATURE = (
    "append_events(uuid, uuid[], uuid[], integer[], bigint[], bigint[], uuid[], bigint[], bytea[], uuid[], text[],"
    " bytea[], text, boolean)"
)
FINISH_SIGNATURE = (
    "finish_run(uuid, uuid, uuid, integer, bigint, bytea[], text[], bytea[], text, text, text, text, integer, integer,"
    " bigint, bigint, numeric, uuid[], text[], text[])"
)
BY_APP = {
    "cancelled_event(text, text)": CANCELLED_EVENT,
    "stop_runs(uuid, uuid[])": STOP_RUNS,
    BEGIN_SIGNATURE: BEGIN_RUN,
    APPEND_SIGNATURE: APPEND_EVENTS,
    FINISH_SIGNATURE: FINISH_RUN,
    "request_cancel(uuid, uuid)": REQUEST_CANCEL,
}
BY_OPS = {
    "claim_runs(uuid, interval, integer)": CLAIM_RUNS,
    "hand_over_runs(uuid)": HAND_OVER_RUNS,
    "cancel_project_runs(uuid)": CANCEL_PROJECT_RUNS,
}
BEFORE = importlib.import_module("migrations.versions.0002_run_engine")
AGENTS = importlib.import_module("migrations.versions.0040_agents")
GONE_BY_APP = {**BEFORE.BY_APP, AGENTS.SIGNATURE: AGENTS.BEGIN_RUN}
GONE_BY_OPS = {
    "end_expired_runs(bytea, text, integer)": BEFORE.END_EXPIRED_RUNS,
    "cancel_project_runs(uuid)": BEFORE.CANCEL_PROJECT_RUNS,
}


def upgrade() -> None:
    op.create_table(
        "run_steps",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "run_id"],
            ["runs.project_id", "runs.id"],
            name=op.f("run_steps_project_id_run_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "run_id", "name", name=op.f("run_steps_pkey")),
    )
    theirs = "((SELECT acting_end_user()) IS NULL OR end_user_id = (SELECT acting_end_user()))"
    rls.protect(
        "run_steps",
        select=f"project_id = (SELECT readable_project()) AND {theirs}",
        insert="false",
        update="false",
        delete="false",
    )
    rls.grant("SELECT", "run_steps")
    op.add_column(
        "runs",
        sa.Column(
            "rights", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
    )
    op.add_column("runs", sa.Column("depth", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("runs", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.add_column("runs", sa.Column("outcome", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("runs", sa.Column("seconds", sa.Float(), server_default=sa.text("600"), nullable=False))
    op.add_column("runs", sa.Column("deadline_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.drop_index("runs_one_live_per_thread", "runs")
    op.create_index(
        "runs_one_running_per_thread",
        "runs",
        ["project_id", "thread_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "runs_waiting_idx",
        "runs",
        ["project_id", "thread_id", "created_at", "id"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    for signature in (*GONE_BY_APP, *GONE_BY_OPS):
        op.execute(f"DROP FUNCTION {signature}")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for signature, body in BY_OPS.items():
        op.execute(body)
        rls.allow(signature, ops=True)


def downgrade() -> None:
    for signature in (*reversed(BY_OPS), *reversed(BY_APP)):
        op.execute(f"DROP FUNCTION {signature}")
    for signature, body in GONE_BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for signature, body in GONE_BY_OPS.items():
        op.execute(body)
        rls.allow(signature, ops=True)
    op.drop_index("runs_waiting_idx", "runs")
    op.drop_index("runs_one_running_per_thread", "runs")
    op.create_index(
        "runs_one_live_per_thread",
        "runs",
        ["project_id", "thread_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    for column in ("deadline_at", "seconds", "outcome", "parent_id", "depth", "rights"):
        op.drop_column("runs", column)
    op.drop_table("run_steps")
