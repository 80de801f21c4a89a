"""a run reads the key it is paid with in one round trip"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0011"
down_revision = "0036"
branch_labels = None
depends_on = None

SIGNATURE = "read_provider_key(uuid, uuid, uuid, uuid, text)"
READ_PROVIDER_KEY = """
CREATE FUNCTION read_provider_key(p_credential uuid, p_user uuid, p_end_user uuid, p_project uuid, p_provider text)
RETURNS TABLE (base_url text, sealed bytea) LANGUAGE plpgsql VOLATILE ROWS 1 AS $$
BEGIN
  PERFORM public.become(p_credential, p_user, p_end_user, p_project);
  RETURN QUERY SELECT k.base_url, k.sealed FROM public.provider_keys k
    WHERE k.project_id = p_project AND k.provider = p_provider;
END $$"""


def upgrade() -> None:
    op.execute(READ_PROVIDER_KEY)
    rls.allow(SIGNATURE)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
