"""sources of the registry are a matter of admins; too many tries to sign in are noted without a search"""

from __future__ import annotations

from alembic import op

from migrations import rls

revision = "0082"
down_revision = "0081"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
OPERATOR = "'00000000-0000-0000-0000-000000000000'::uuid"
# The first id (UUIDv7) of the last hour.
AN_HOUR_AGO = (
    "(lpad(to_hex((extract(epoch FROM now() - interval '1 hour') * 1000)::bigint), 12, '0')"
    " || '00000000000000000000')::uuid"
)
NOTE = """
CREATE OR REPLACE FUNCTION note_sign_in_limit(p_address text) RETURNS void LANGUAGE sql VOLATILE {secured} AS $$
  INSERT INTO audit (id, credential_id, user_id, action, target, client)
    SELECT uuid7(), {operator}, u.id, 'sign_in:limited', 'mail', 'sign-in page' FROM users u
    WHERE u.email = lower(p_address) AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id
      AND a.action = 'sign_in:limited' AND {lately})
$$"""
LATELY_BEFORE = "a.created_at > now() - interval '1 hour'"
ASIDE = "(SELECT acting_end_user()) IS NULL"


def write_sources(project: str) -> None:
    condition = f"project_id = (SELECT {project}()) AND {ASIDE}"
    op.execute(f"ALTER POLICY app_insert ON registry_sources WITH CHECK ({condition})")
    op.execute(f"ALTER POLICY app_update ON registry_sources USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"ALTER POLICY app_delete ON registry_sources USING ({condition})")


def note(lately: str) -> None:
    op.execute(NOTE.format(secured=SECURED, operator=OPERATOR, lately=lately))
    rls.allow("note_sign_in_limit(text)")


def upgrade() -> None:
    write_sources("administered_project")
    note(f"a.id > {AN_HOUR_AGO}")


def downgrade() -> None:
    note(LATELY_BEFORE)
    write_sources("writable_project")
