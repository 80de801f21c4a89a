"""run engine: starting, appending, ending, leases"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Runs as the caller: row-level security decides what it sees and writes.
BEGIN_RUN = """
CREATE FUNCTION begin_run(
  p_project uuid, p_end_user uuid, p_thread uuid, p_thread_external text, p_run uuid, p_run_external text,
  p_credential uuid, p_user uuid, p_scopes text[], p_agent text, p_on_disconnect text, p_input text, p_digest bytea,
  p_owner uuid, p_lease interval, p_started bytea,
  OUT outcome text, OUT run_id uuid, OUT thread_id uuid, OUT on_disconnect text, OUT history text,
  OUT settings text
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
DECLARE
  known record;
BEGIN
  SELECT to_jsonb(p)::text INTO settings FROM projects p WHERE p.id = p_project;
  IF NOT FOUND THEN
    outcome := 'unknown_project';
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
  INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, scopes, agent, status,
      on_disconnect, input, input_digest, last_seq, lease_owner, lease_epoch, lease_expires_at, started_at)
    VALUES (p_project, p_run, begin_run.thread_id, p_end_user, p_run_external, p_credential, p_user, p_scopes, p_agent,
      'running', p_on_disconnect, p_input::jsonb, p_digest, 1, p_owner, 1, clock_timestamp() + p_lease,
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

# One transaction for many runs. Each run's events are fenced by its lease and follow its last one without a gap.
# Returns only the runs it refused: with a NULL the lease is gone, else where their log stands.
APPEND_EVENTS = f"""
CREATE FUNCTION append_events(
  p_owner uuid, p_projects uuid[], p_runs uuid[], p_epochs integer[], p_seqs bigint[], p_events bytea[], p_tell text,
  p_relaxed boolean
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
    WITH incoming AS (
      SELECT * FROM unnest(p_projects, p_runs, p_epochs, p_seqs, p_events) AS i (project_id, run_id, epoch, seq, event)
    ), wanted AS (
      SELECT i.project_id, i.run_id, min(i.epoch) AS epoch, min(i.seq) AS first, max(i.seq) AS last
      FROM incoming i GROUP BY i.project_id, i.run_id
    ), fenced AS (
      UPDATE runs r SET last_seq = w.last FROM wanted w
      WHERE r.project_id = w.project_id AND r.id = w.run_id AND r.status = 'running'
        AND r.lease_owner = p_owner AND r.lease_epoch = w.epoch AND r.last_seq = w.first - 1
      RETURNING r.project_id, r.id, r.end_user_id
    ), written AS (
      INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
      SELECT i.project_id, i.run_id, i.seq, f.end_user_id, i.event
      FROM incoming i JOIN fenced f ON f.project_id = i.project_id AND f.id = i.run_id
    )
    SELECT w.run_id, r.last_seq FROM wanted w
    LEFT JOIN runs r ON r.project_id = w.project_id AND r.id = w.run_id AND r.status = 'running'
      AND r.lease_owner = p_owner AND r.lease_epoch = w.epoch
    WHERE NOT EXISTS (SELECT FROM fenced f WHERE f.project_id = w.project_id AND f.id = w.run_id);
END $$"""

# The end of a run: its last events, its messages, what it used, and the lease given back, in one transaction.
# Answers NULL when done (also when the same call was done before), -1 when the lease is gone, else the log's last seq.
FINISH_RUN = f"""
CREATE FUNCTION finish_run(
  p_owner uuid, p_project uuid, p_run uuid, p_epoch integer, p_first bigint, p_events bytea[], p_status text,
  p_error_code text, p_model text, p_requests integer, p_tool_calls integer, p_input_tokens bigint,
  p_output_tokens bigint, p_cost numeric, p_messages uuid[], p_roles text[], p_contents text[]
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
  UPDATE runs r SET status = p_status, error_code = p_error_code, model = p_model, requests = p_requests,
      tool_calls = p_tool_calls, input_tokens = p_input_tokens, output_tokens = p_output_tokens, cost_usd = p_cost,
      last_seq = p_first - 1 + cardinality(p_events), lease_owner = NULL, lease_expires_at = NULL,
      ended_at = clock_timestamp()
    WHERE r.project_id = p_project AND r.id = p_run;
  INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
    SELECT p_project, p_run, p_first - 1 + e.n, found_run.end_user_id, e.event
    FROM unnest(p_events) WITH ORDINALITY AS e (event, n);
  SELECT coalesce(max(m.position), 0) INTO base FROM messages m
    WHERE m.project_id = p_project AND m.thread_id = found_run.thread_id;
  INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role, content)
    SELECT p_project, m.id, found_run.thread_id, p_run, found_run.end_user_id, base + m.n, m.role, m.content::jsonb
    FROM unnest(p_messages, p_roles, p_contents) WITH ORDINALITY AS m (id, role, content, n);
  PERFORM pg_notify('innkeeper_runs', p_run::text);
  RETURN NULL;
END $$"""

# Ops: ids and leases only.
RENEW_LEASES = f"""
CREATE FUNCTION renew_leases(p_owner uuid, p_runs uuid[], p_lease interval)
RETURNS TABLE (project_id uuid, run_id uuid, epoch integer, cancel boolean) LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE runs r SET lease_expires_at = clock_timestamp() + p_lease
  WHERE r.id = ANY (p_runs) AND r.lease_owner = p_owner AND r.status IN ('queued', 'running')
  RETURNING r.project_id, r.id, r.lease_epoch, r.cancel_requested_at IS NOT NULL
$$"""

# A higher epoch fences whoever still believes to hold the lease.
END_EXPIRED_RUNS = f"""
CREATE FUNCTION end_expired_runs(p_event bytea, p_code text, p_limit integer)
RETURNS TABLE (project_id uuid, run_id uuid) LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH expired AS (
    SELECT r.project_id, r.id FROM runs r
    WHERE r.status IN ('queued', 'running') AND r.lease_expires_at < clock_timestamp()
    ORDER BY r.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), ended AS (
    UPDATE runs r SET status = 'interrupted', error_code = p_code, last_seq = r.last_seq + 1,
      lease_owner = NULL, lease_epoch = r.lease_epoch + 1, lease_expires_at = NULL, ended_at = clock_timestamp()
    FROM expired e WHERE r.project_id = e.project_id AND r.id = e.id
    RETURNING r.project_id, r.id, r.end_user_id, r.last_seq
  ), written AS (
    INSERT INTO run_events (project_id, run_id, seq, end_user_id, event)
    SELECT e.project_id, e.id, e.last_seq, e.end_user_id, p_event FROM ended e
  ), told AS (
    SELECT pg_notify('innkeeper_runs', e.id::text) FROM ended e
  )
  SELECT e.project_id, e.id FROM ended e WHERE (SELECT count(*) FROM told) >= 0
$$"""

# Marks every live run of a project for cancelling and says how many there are.
CANCEL_PROJECT_RUNS = f"""
CREATE FUNCTION cancel_project_runs(p_project uuid) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH marked AS (
    UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp())
    WHERE r.project_id = p_project AND r.status IN ('queued', 'running') RETURNING r.id
  ), told AS (
    SELECT pg_notify('innkeeper_cancel', m.id::text) FROM marked m
  )
  SELECT count(*) FROM told
$$"""

# Runs as the caller. False: no such live run, or not the caller's.
REQUEST_CANCEL = """
CREATE FUNCTION request_cancel(p_project uuid, p_run uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, public AS $$
BEGIN
  UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp())
    WHERE r.project_id = p_project AND r.id = p_run AND r.status IN ('queued', 'running');
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM pg_notify('innkeeper_cancel', p_run::text);
  RETURN true;
END $$"""

BY_APP = {
    "begin_run(uuid, uuid, uuid, text, uuid, text, uuid, uuid, text[], text, text, text, bytea, uuid, interval,"
    " bytea)": BEGIN_RUN,
    "append_events(uuid, uuid[], uuid[], integer[], bigint[], bytea[], text, boolean)": APPEND_EVENTS,
    "finish_run(uuid, uuid, uuid, integer, bigint, bytea[], text, text, text, integer, integer, bigint, bigint,"
    " numeric, uuid[], text[], text[])": FINISH_RUN,
    "request_cancel(uuid, uuid)": REQUEST_CANCEL,
}
BY_OPS = {
    "renew_leases(uuid, uuid[], interval)": RENEW_LEASES,
    "end_expired_runs(bytea, text, integer)": END_EXPIRED_RUNS,
    "cancel_project_runs(uuid)": CANCEL_PROJECT_RUNS,
}


def upgrade() -> None:
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    for signature, body in BY_OPS.items():
        op.execute(body)
        rls.allow(signature, ops=True)


def downgrade() -> None:
    for signature in (*BY_APP, *BY_OPS):
        op.execute(f"DROP FUNCTION {signature}")
