"""a person sees their sessions on the pages and ends them"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0051"
down_revision = "0042"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
LIVE = "user_id = acting_person() AND kind = 'session' AND revoked_at IS NULL AND expires_at > now()"
END_SESSION = f"""
CREATE FUNCTION end_session(p_session uuid) RETURNS boolean LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE credentials SET revoked_at = now() WHERE id = p_session AND {LIVE} RETURNING true
$$"""
END_OTHERS = f"""
CREATE FUNCTION end_other_sessions() RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH ended AS (
    UPDATE credentials SET revoked_at = now() WHERE id <> acting_credential() AND {LIVE} RETURNING 1
  ) SELECT count(*) FROM ended
$$"""
FUNCTIONS = {"end_session(uuid)": END_SESSION, "end_other_sessions()": END_OTHERS}


def upgrade() -> None:
    for signature, body in FUNCTIONS.items():
        op.execute(body)
        rls.allow(signature)


def downgrade() -> None:
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
