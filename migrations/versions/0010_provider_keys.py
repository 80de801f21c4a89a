"""provider_keys: the keys with which a project's models are paid, sealed; and under which roots secrets are sealed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0010"
down_revision = "0015"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"

# Ops. For doctor: how many sealed secrets there are under which root, by the id each begins with (server/vault.py).
# A migration that adds a sealed column replaces this function with one that counts it too.
SEALED_UNDER = f"""
CREATE FUNCTION sealed_under() RETURNS TABLE (place text, key_id text, secrets bigint)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT 'provider_keys.sealed', encode(substr(k.sealed, 2, 4), 'hex'), count(*) FROM provider_keys k GROUP BY 2
$$"""


def upgrade() -> None:
    op.create_table(
        "provider_keys",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "provider IN ('openai', 'anthropic', 'google', 'groq', 'mistral', 'compatible')",
            name=op.f("provider_keys_provider_known"),
        ),
        sa.CheckConstraint("length(hint) <= 4", name=op.f("provider_keys_hint_short")),
        sa.CheckConstraint(
            "(provider = 'compatible') = (base_url IS NOT NULL)", name=op.f("provider_keys_base_url_of_compatible")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("provider_keys_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("provider_keys_pkey")),
        sa.UniqueConstraint("project_id", "provider", name=op.f("provider_keys_project_id_provider_key")),
    )
    # Runs of whoever reads the project use them, so all of these read the sealed bytes, which say nothing to them.
    administered = "project_id = (SELECT administered_project())"
    rls.protect(
        "provider_keys",
        select="project_id = (SELECT readable_project())",
        insert=administered,
        update=administered,
        delete=administered,
    )
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "provider_keys")
    op.execute(SEALED_UNDER)
    rls.allow("sealed_under()", ops=True)


def downgrade() -> None:
    op.execute("DROP FUNCTION sealed_under()")
    op.drop_table("provider_keys")
