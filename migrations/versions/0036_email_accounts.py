"""email accounts: their secrets in rows of their own, which ``keys rotate`` finds, and counted for doctor"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0036"
down_revision = "0016"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
BEFORE = """
  SELECT 'provider_keys.sealed', encode(substr(k.sealed, 2, 4), 'hex'), count(*) FROM provider_keys k GROUP BY 2
  UNION ALL SELECT 'registry_sources.secret', encode(substr(s.secret, 2, 4), 'hex'), count(*) FROM registry_sources s
    WHERE s.secret IS NOT NULL GROUP BY 2"""
ADDED = """
  UNION ALL SELECT 'email_secrets.sealed', encode(substr(s.sealed, 2, 4), 'hex'), count(*) FROM email_secrets s
    GROUP BY 2
  UNION ALL SELECT 'house_mails.secret', encode(substr(m.secret, 2, 4), 'hex'), count(*) FROM house_mails m
    WHERE m.secret IS NOT NULL GROUP BY 2"""
WEBHOOK_SECRET = f"""
CREATE OR REPLACE FUNCTION email_webhook_secret(p_project uuid) RETURNS bytea LANGUAGE sql STABLE {SECURED} AS $$
  SELECT s.sealed FROM email_secrets s WHERE s.project_id = p_project AND s.kind = 'webhook_secret'
$$"""
SECRET_BEFORE = f"""
CREATE OR REPLACE FUNCTION email_webhook_secret(p_project uuid) RETURNS bytea LANGUAGE sql STABLE {SECURED} AS $$
  SELECT a.webhook_secret FROM email_accounts a WHERE a.project_id = p_project
$$"""


def _sealed_under(counts: str) -> str:
    return (
        "CREATE OR REPLACE FUNCTION sealed_under() RETURNS TABLE (place text, key_id text, secrets bigint)"
        f" LANGUAGE sql STABLE {SECURED} AS $$ {counts} $$"
    )


def upgrade() -> None:
    op.create_table(
        "email_secrets",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('api_key', 'webhook_secret')", name=op.f("email_secrets_kind_known")),
        sa.CheckConstraint("length(hint) <= 4", name=op.f("email_secrets_hint_short")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("email_secrets_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("email_secrets_pkey")),
        sa.UniqueConstraint("project_id", "kind", name=op.f("email_secrets_project_id_kind_key")),
    )
    # The jobs of the project use them, so whoever reads the project reads the sealed bytes, which say nothing to them.
    administered = "project_id = (SELECT administered_project())"
    reads = "project_id = (SELECT readable_project())"
    rls.protect("email_secrets", select=reads, insert=administered, update=administered, delete=administered)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "email_secrets")
    op.execute(WEBHOOK_SECRET)
    op.execute(_sealed_under(BEFORE + ADDED))
    op.add_column("emails", sa.Column("attempts_before", sa.Integer(), server_default=sa.text("0"), nullable=False))
    # Nothing could write these before, so nothing is in them.
    for column in ("api_key", "webhook_secret", "account"):
        op.drop_column("email_accounts", column)


def downgrade() -> None:
    op.drop_column("emails", "attempts_before")
    op.execute("DELETE FROM email_accounts")
    op.add_column("email_accounts", sa.Column("account", sa.Text(), nullable=False))
    op.add_column("email_accounts", sa.Column("api_key", sa.LargeBinary(), nullable=False))
    op.add_column("email_accounts", sa.Column("webhook_secret", sa.LargeBinary(), nullable=True))
    op.execute(SECRET_BEFORE)
    op.execute(_sealed_under(BEFORE))
    op.drop_table("email_secrets")
