"""a deleted credential ends its runs, as a revoked one does; a source of tokens ends what was exchanged on its word"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0118"
down_revision = "0117"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# As migration 0115 has it. Runs of a project that is being deleted go with it.
END_RUNS = f"""
CREATE OR REPLACE FUNCTION end_runs_of_credential() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  PERFORM stop_runs(r.project_id, array_agg(r.id)) FROM runs r {{joined}}
    WHERE r.credential_id = OLD.id AND r.status IN ('queued', 'running') GROUP BY r.project_id;
  RETURN NULL;
END $$"""
TRIGGER = (
    "CREATE TRIGGER credentials_gone_with_runs AFTER DELETE ON credentials FOR EACH ROW"
    " EXECUTE FUNCTION end_runs_of_credential()"
)

# Of visitors without a name, or of all others: whose word a token was exchanged on is not kept. End users come with the
# next one, if somebody still answers for them; their runs go on.
SIGNATURE = "end_exchanged_tokens(uuid, boolean)"
END_TOKENS = f"""
CREATE FUNCTION end_exchanged_tokens(p_project uuid, p_visitors boolean) RETURNS bigint LANGUAGE sql VOLATILE {SECURED}
AS $$
  WITH ended AS (
    DELETE FROM end_user_tokens t USING credentials c JOIN end_users e
        ON e.project_id = c.project_id AND e.id = c.end_user_id
      WHERE t.credential_id = c.id AND e.project_id = p_project AND (e.issuer = '~anonymous') = p_visitors
        AND p_project = administered_project()
      RETURNING c.id
  )
  SELECT count(pg_notify('innkeeper_revoked', 'token:' || d.id::text)) FROM (SELECT DISTINCT id FROM ended) d
$$"""


def upgrade() -> None:
    op.execute(END_RUNS.format(joined="JOIN projects p ON p.id = r.project_id"))
    op.execute(TRIGGER)
    op.execute(END_TOKENS)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.execute("DROP TRIGGER credentials_gone_with_runs ON credentials")
    op.execute(END_RUNS.format(joined=""))
