"""run budgets: what a project and its end users may use in a month, what they used, and what runs of one tree share"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0090"
down_revision = "0070"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Months are those of UTC, wherever a process runs.
THIS_MONTH = """
CREATE FUNCTION this_month() RETURNS date LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
  SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date
$$"""

# Adds to this month of a project and, if there is one, of its end user; in this order, so that two never wait for each
# other. An end user or a project that is being deleted has no month any more.
ADD_USAGE = f"""
CREATE FUNCTION add_usage(
  p_project uuid, p_end_user uuid, p_messages bigint, p_usd numeric, p_requests bigint, p_unpriced bigint,
  p_input bigint, p_output bigint
) RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  INSERT INTO usage_months AS u (project_id, month, subject, end_user_id, messages, usd, requests, unpriced_requests,
      input_tokens, output_tokens)
    SELECT p_project, this_month(), s.subject, s.end_user, p_messages, p_usd, p_requests, p_unpriced, p_input, p_output
    FROM (SELECT 1 AS n, p.id AS subject, NULL::uuid AS end_user FROM projects p WHERE p.id = p_project
          UNION ALL SELECT 2, e.id, e.id FROM end_users e WHERE e.project_id = p_project AND e.id = p_end_user) s
    ORDER BY s.n
    ON CONFLICT (project_id, month, subject) DO UPDATE SET
      messages = u.messages + excluded.messages, usd = u.usd + excluded.usd, requests = u.requests + excluded.requests,
      unpriced_requests = u.unpriced_requests + excluded.unpriced_requests,
      input_tokens = u.input_tokens + excluded.input_tokens, output_tokens = u.output_tokens + excluded.output_tokens
$$"""

# Whose budget of this month is used up, and which: 'project_messages', 'project_usd', 'end_user_messages',
# 'end_user_usd', else NULL. p_spoken_for: of a run whose message is counted already only money counts. What other runs
# have reserved counts as spent. p_run: the run that asks.
BUDGET_USED_UP = f"""
CREATE FUNCTION budget_used_up(
  p_project uuid, p_end_user uuid, p_run uuid, p_spoken_for boolean, OUT which text, OUT most numeric
) LANGUAGE plpgsql STABLE {SECURED} AS $$
DECLARE
  had projects%ROWTYPE;
  used record;
BEGIN
  SELECT * INTO had FROM projects p WHERE p.id = p_project;
  IF had.monthly_messages IS NOT NULL OR had.monthly_usd IS NOT NULL THEN
    SELECT coalesce(sum(u.messages), 0) AS messages, coalesce(sum(u.usd), 0) + (
        SELECT coalesce(sum(r.reserved_usd), 0) FROM runs r
        WHERE r.project_id = p_project AND r.reserved_usd IS NOT NULL AND r.id <> p_run) AS usd
      INTO used FROM usage_months u
      WHERE u.project_id = p_project AND u.month = this_month() AND u.subject = p_project;
    IF used.messages >= had.monthly_messages AND NOT p_spoken_for THEN
      which := 'project_messages'; most := had.monthly_messages;
      RETURN;
    ELSIF used.usd >= had.monthly_usd THEN
      which := 'project_usd'; most := had.monthly_usd;
      RETURN;
    END IF;
  END IF;
  IF p_end_user IS NOT NULL AND (had.end_user_monthly_messages IS NOT NULL OR had.end_user_monthly_usd IS NOT NULL) THEN
    SELECT coalesce(sum(u.messages), 0) AS messages, coalesce(sum(u.usd), 0) + (
        SELECT coalesce(sum(r.reserved_usd), 0) FROM runs r WHERE r.project_id = p_project
          AND r.reserved_usd IS NOT NULL AND r.end_user_id = p_end_user AND r.id <> p_run) AS usd
      INTO used FROM usage_months u
      WHERE u.project_id = p_project AND u.month = this_month() AND u.subject = p_end_user;
    IF used.messages >= had.end_user_monthly_messages AND NOT p_spoken_for THEN
      which := 'end_user_messages'; most := had.end_user_monthly_messages;
    ELSIF used.usd >= had.end_user_monthly_usd THEN
      which := 'end_user_usd'; most := had.end_user_monthly_usd;
    END IF;
  END IF;
END $$"""

# Before a run is there: into which tree of runs it belongs, and whether there is a budget for it. By a trigger, so that
# no way of starting a run can forget it, and none needs a further question. The scripted agent uses nothing.
ADMIT_RUN = f"""
CREATE FUNCTION admit_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
DECLARE
  found record;
BEGIN
  IF NEW.parent_id IS NOT NULL THEN
    SELECT coalesce(r.root_id, r.id) INTO NEW.root_id FROM runs r
      WHERE r.project_id = NEW.project_id AND r.id = NEW.parent_id;
  END IF;
  IF NEW.agent <> 'demo' AND EXISTS (SELECT FROM projects p WHERE p.id = NEW.project_id AND
      (p.monthly_messages IS NOT NULL OR p.monthly_usd IS NOT NULL OR NEW.end_user_id IS NOT NULL AND
       (p.end_user_monthly_messages IS NOT NULL OR p.end_user_monthly_usd IS NOT NULL))) THEN
    SELECT * INTO found FROM budget_used_up(NEW.project_id, NEW.end_user_id, NEW.id, false);
    IF found.which IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'IK402', MESSAGE = found.which, DETAIL = found.most::text;
    END IF;
  END IF;
  RETURN NEW;
END $$"""

# What a run has used goes to its month when it ends, but for what was counted while it went on. A message is a run that
# asked a model about something a user said.
COUNT_RUN = f"""
CREATE FUNCTION count_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  PERFORM add_usage(NEW.project_id, NEW.end_user_id,
    CASE WHEN NEW.metered_messages = 0 AND is_message(NEW.project_id, NEW.id) THEN 1 ELSE 0 END,
    greatest(coalesce(NEW.cost_usd, NEW.metered_usd) - NEW.metered_usd, 0),
    NEW.requests, CASE WHEN NEW.cost_usd IS NULL THEN NEW.requests ELSE 0 END, NEW.input_tokens, NEW.output_tokens);
  NEW.metered_messages := 1;
  NEW.metered_usd := coalesce(NEW.cost_usd, NEW.metered_usd);
  NEW.reserved_usd := NULL;
  RETURN NEW;
END $$"""

# Who deletes a run while its model answers has spent what was reserved for that. Nobody waits for a row that is not
# there: a project that is deleted has no months.
COUNT_DELETED_RUN = f"""
CREATE FUNCTION count_deleted_run() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  UPDATE usage_months u SET usd = u.usd + OLD.reserved_usd WHERE u.project_id = OLD.project_id
    AND u.month = this_month() AND u.subject IN (OLD.project_id, OLD.end_user_id);
  RETURN NULL;
END $$"""

IS_MESSAGE = f"""
CREATE FUNCTION is_message(p_project uuid, p_run uuid) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM messages m WHERE m.project_id = p_project AND m.run_id = p_run AND m.role = 'user'
    AND m.content -> 'parts' @> '[{{"part_kind": "user-prompt"}}]')
$$"""

# The one gate before each request to a model, for runs that have a budget or are not alone: what the run has used so
# far is written down, and whether it may ask once more is decided, for all processes one after the other. The counts
# are those of the whole run, so that a call that is made twice counts once. p_limits: those of the run's agent, as
# JSON. p_estimate: what the request may cost; without it nothing is asked, only written down.
# NULL: it may. 'lost': the lease is gone. Else what is used up, and how much of it there was.
METER_RUN = f"""
CREATE FUNCTION meter_run(
  p_owner uuid, p_project uuid, p_run uuid, p_epoch integer, p_limits text, p_requests integer, p_tool_calls integer,
  p_input bigint, p_output bigint, p_usd numeric, p_estimate numeric, OUT verdict text, OUT most numeric
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  me runs%ROWTYPE;
  tree uuid;
  level record;
BEGIN
  SELECT coalesce(r.root_id, r.id) INTO tree FROM runs r WHERE r.project_id = p_project AND r.id = p_run;
  -- A lock of its own: the rows of runs are written by many, in any order.
  PERFORM pg_advisory_xact_lock(hashtextextended(tree::text, 90));
  SELECT * INTO me FROM runs r WHERE r.project_id = p_project AND r.id = p_run AND r.status = 'running'
    AND r.lease_owner = p_owner AND r.lease_epoch = p_epoch FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    verdict := 'lost';
    RETURN;
  END IF;
  IF p_usd > me.metered_usd THEN
    PERFORM add_usage(p_project, me.end_user_id, 0, p_usd - me.metered_usd, 0, 0, 0, 0);
  END IF;
  -- The request that is asked for counts among the steps, so that two runs of a tree never make the last one both.
  UPDATE runs r SET limits = p_limits::jsonb, requests = p_requests + (p_estimate IS NOT NULL)::integer,
      tool_calls = p_tool_calls, input_tokens = p_input, output_tokens = p_output,
      metered_usd = greatest(p_usd, r.metered_usd), reserved_usd = NULL
    WHERE r.project_id = p_project AND r.id = p_run;
  IF p_estimate IS NULL THEN
    RETURN;
  END IF;
  FOR level IN
    WITH members AS (
      SELECT r.* FROM runs r WHERE r.project_id = p_project AND (r.id = tree OR r.root_id = tree)
    )
    SELECT a.limits, sum(d.requests) AS steps, sum(d.tool_calls) AS calls,
      sum(d.input_tokens + d.output_tokens) AS tokens,
      sum(coalesce(d.cost_usd, d.metered_usd)) AS usd
    FROM members a JOIN members d ON d.id = a.id OR d.parent_id = a.id OR d.root_id = a.id
    WHERE a.id IN (p_run, me.parent_id, tree) GROUP BY a.id, a.limits
  LOOP
    most := CASE
      WHEN level.steps > (level.limits ->> 'steps')::numeric THEN (level.limits ->> 'steps')::numeric
      WHEN level.calls > (level.limits ->> 'tool_calls')::numeric THEN (level.limits ->> 'tool_calls')::numeric
      WHEN level.tokens >= (level.limits ->> 'tokens')::numeric THEN (level.limits ->> 'tokens')::numeric
      WHEN level.usd >= (level.limits ->> 'cost_usd')::numeric THEN (level.limits ->> 'cost_usd')::numeric END;
    IF most IS NOT NULL THEN
      verdict := CASE
        WHEN level.steps > (level.limits ->> 'steps')::numeric THEN 'steps'
        WHEN level.calls > (level.limits ->> 'tool_calls')::numeric THEN 'tool_calls'
        WHEN level.tokens >= (level.limits ->> 'tokens')::numeric THEN 'tokens' ELSE 'cost_usd' END;
      UPDATE runs r SET requests = p_requests WHERE r.project_id = p_project AND r.id = p_run;
      RETURN;
    END IF;
  END LOOP;
  IF me.agent = 'demo' THEN
    RETURN;
  END IF;
  -- Whose month is looked at next is held still until this is written down.
  PERFORM add_usage(p_project, me.end_user_id, 0, 0, 0, 0, 0, 0);
  SELECT b.which, b.most INTO verdict, most
    FROM budget_used_up(p_project, me.end_user_id, p_run,
      me.metered_messages > 0 OR NOT is_message(p_project, p_run)) b;
  IF verdict IS NOT NULL THEN
    UPDATE runs r SET requests = p_requests WHERE r.project_id = p_project AND r.id = p_run;
    RETURN;
  END IF;
  IF me.metered_messages = 0 AND is_message(p_project, p_run) THEN
    PERFORM add_usage(p_project, me.end_user_id, 1, 0, 0, 0, 0, 0);
  END IF;
  UPDATE runs r SET metered_messages = 1, reserved_usd = p_estimate WHERE r.project_id = p_project AND r.id = p_run;
END $$"""

# The project's owners learn it by one mail a month and kind when the project's budget is used up, in the transaction
# of what used it up.
TELL_BUDGET = f"""
CREATE FUNCTION tell_budget(p_project uuid) RETURNS void LANGUAGE sql VOLATILE {SECURED} AS $$
  SELECT queue_house_mail(uuid7(), 'message_limit', o.id, o.email, o.name,
      jsonb_build_object('project', p.name, 'project_id', p.id, 'what', w.what, 'limit', w.most,
        'renews', to_char(u.month + interval '1 month', 'FMDD FMMonth')),
      NULL, concat_ws(' ', p.id, o.id, w.what, u.month), NULL)
  FROM projects p JOIN usage_months u ON u.project_id = p.id AND u.subject = p.id AND u.month = this_month()
    CROSS JOIN LATERAL (
      SELECT 'messages' AS what, p.monthly_messages || ' messages' AS most WHERE u.messages >= p.monthly_messages
      UNION ALL SELECT 'budget', 'US$ ' || p.monthly_usd WHERE u.usd >= p.monthly_usd) w
    JOIN project_members m ON m.project_id = p.id AND m.role = 'owner'
    JOIN users o ON o.id = m.user_id AND o.disabled_at IS NULL AND o.email LIKE '%@%.%'
  WHERE p.id = p_project
$$"""

TELL_OF_MONTH = f"""
CREATE FUNCTION tell_of_month() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  PERFORM tell_budget(NEW.project_id) FROM projects p WHERE p.id = NEW.project_id
    AND (NEW.messages >= p.monthly_messages OR NEW.usd >= p.monthly_usd);
  RETURN NULL;
END $$"""

TELL_OF_PROJECT = f"""
CREATE FUNCTION tell_of_project() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  PERFORM tell_budget(NEW.id);
  RETURN NULL;
END $$"""

INNER = {
    "this_month()": THIS_MONTH,
    "is_message(uuid, uuid)": IS_MESSAGE,
    "add_usage(uuid, uuid, bigint, numeric, bigint, bigint, bigint, bigint)": ADD_USAGE,
    "budget_used_up(uuid, uuid, uuid, boolean)": BUDGET_USED_UP,
    "tell_budget(uuid)": TELL_BUDGET,
    "admit_run()": ADMIT_RUN,
    "count_run()": COUNT_RUN,
    "count_deleted_run()": COUNT_DELETED_RUN,
    "tell_of_month()": TELL_OF_MONTH,
    "tell_of_project()": TELL_OF_PROJECT,
}
METER_SIGNATURE = "meter_run(uuid, uuid, uuid, integer, text, integer, integer, bigint, bigint, numeric, numeric)"
TRIGGERS = {
    "runs_admitted": "BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION admit_run()",
    "runs_counted": "BEFORE UPDATE OF ended_at ON runs FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT"
    " NULL AND NEW.requests > 0 AND NEW.agent <> 'demo') EXECUTE FUNCTION count_run()",
    "runs_deleted_counted": "AFTER DELETE ON runs FOR EACH ROW WHEN (OLD.reserved_usd IS NOT NULL)"
    " EXECUTE FUNCTION count_deleted_run()",
    "usage_months_told": "AFTER INSERT OR UPDATE OF messages, usd ON usage_months FOR EACH ROW"
    " WHEN (NEW.end_user_id IS NULL) EXECUTE FUNCTION tell_of_month()",
    "projects_budget_told": "AFTER UPDATE OF monthly_messages, monthly_usd ON projects FOR EACH ROW"
    " WHEN (NEW.monthly_messages IS NOT NULL OR NEW.monthly_usd IS NOT NULL) EXECUTE FUNCTION tell_of_project()",
}
PROJECT_COLUMNS: dict[str, sa.BigInteger | sa.Numeric[Decimal]] = {
    "monthly_messages": sa.BigInteger(),
    "monthly_usd": sa.Numeric(),
    "end_user_monthly_messages": sa.BigInteger(),
    "end_user_monthly_usd": sa.Numeric(),
}


def _json(name: str) -> sa.Column[object]:
    return sa.Column(
        name, postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
    )


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    for name, kind in PROJECT_COLUMNS.items():
        op.add_column("projects", sa.Column(name, kind, nullable=True))
    op.add_column("projects", _json("model_prices"))
    op.add_column("runs", sa.Column("root_id", sa.Uuid(), nullable=True))
    op.add_column("runs", _json("limits"))
    op.add_column("runs", sa.Column("metered_messages", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("runs", sa.Column("metered_usd", sa.Numeric(), server_default=sa.text("0"), nullable=False))
    op.add_column("runs", sa.Column("reserved_usd", sa.Numeric(), nullable=True))
    op.create_index("runs_tree_idx", "runs", ["project_id", "root_id"], postgresql_where=sa.text("root_id IS NOT NULL"))
    op.create_index("runs_reserved_idx", "runs", ["project_id"], postgresql_where=sa.text("reserved_usd IS NOT NULL"))
    op.create_table(
        "usage_months",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("end_user_id", sa.Uuid(), nullable=True),
        _count("messages"),
        sa.Column("usd", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        _count("requests"),
        _count("unpriced_requests"),
        _count("input_tokens"),
        _count("output_tokens"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("usage_months_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "end_user_id"],
            ["end_users.project_id", "end_users.id"],
            name=op.f("usage_months_project_id_end_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "month", "subject", name=op.f("usage_months_pkey")),
    )
    op.create_index(op.f("usage_months_project_id_end_user_id_idx"), "usage_months", ["project_id", "end_user_id"])
    theirs = "((SELECT acting_end_user()) IS NULL OR end_user_id = (SELECT acting_end_user()))"
    rls.protect(
        "usage_months",
        select=f"project_id = (SELECT readable_project()) AND {theirs}",
        insert="false",
        update="false",
        delete="false",
    )
    rls.grant("SELECT", "usage_months")
    for signature, body in INNER.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(METER_RUN)
    rls.allow(METER_SIGNATURE)
    for name, when in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when}")


def downgrade() -> None:
    for name, when in TRIGGERS.items():
        table = when.split(" ON ")[1].split(" ")[0]
        op.execute(f"DROP TRIGGER {name} ON {table}")
    for signature in (METER_SIGNATURE, *reversed(INNER)):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_table("usage_months")
    op.drop_index("runs_reserved_idx", "runs")
    op.drop_index("runs_tree_idx", "runs")
    for column in ("reserved_usd", "metered_usd", "metered_messages", "limits", "root_id"):
        op.drop_column("runs", column)
    for column in ("model_prices", *PROJECT_COLUMNS):
        op.drop_column("projects", column)
