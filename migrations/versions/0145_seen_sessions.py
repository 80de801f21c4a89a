"""a person tells their sessions apart by what the audit log has of each: from where, and in what browser"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0145"
down_revision = "0125"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Nothing more is kept for it: the act of opening a session is in the log, with the session as its credential.
LIVE_SESSIONS = f"""
CREATE FUNCTION live_sessions() RETURNS
  TABLE (id uuid, created_at timestamptz, expires_at timestamptz, address text, user_agent text)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT c.id, c.created_at, c.expires_at, opened.address, opened.user_agent
  FROM credentials c
  LEFT JOIN LATERAL (
    SELECT a.address, a.user_agent FROM audit a
    WHERE a.user_id = c.user_id AND a.credential_id = c.id AND a.action = 'session:opened' ORDER BY a.id DESC LIMIT 1
  ) opened ON true
  WHERE c.user_id = (SELECT acting_person()) AND c.kind = 'session' AND c.revoked_at IS NULL AND c.expires_at > now()
  ORDER BY c.created_at DESC, c.id DESC
$$"""


def upgrade() -> None:
    op.execute(LIVE_SESSIONS)
    rls.allow("live_sessions()")


def downgrade() -> None:
    op.execute("DROP FUNCTION live_sessions()")
