"""sources of registries, and what became of each sync of theirs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0031"
down_revision = "0041"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
FIXED = "SET search_path = pg_catalog, public"

# Ops. Whose a webhook is, and what its signature is checked with (sealed); no row for a source there is not.
REGISTRY_WEBHOOK = f"""
CREATE FUNCTION registry_webhook(p_source uuid) RETURNS TABLE (project_id uuid, secret bytea)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT s.project_id, s.secret FROM registry_sources s WHERE s.id = p_source AND s.secret IS NOT NULL
$$"""

# Ops. A sync for a delivery that was verified; the one there is already for a delivery that comes again.
REQUEST_REGISTRY_SYNC = f"""
CREATE FUNCTION request_registry_sync(p_source uuid, p_sync uuid, p_delivery text)
RETURNS TABLE (project_id uuid, sync_id uuid, fresh boolean) LANGUAGE plpgsql VOLATILE ROWS 1 {SECURED} AS $$
BEGIN
  RETURN QUERY INSERT INTO registry_syncs AS s (project_id, id, source_id, delivery)
    SELECT r.project_id, p_sync, r.id, p_delivery FROM registry_sources r WHERE r.id = p_source
    ON CONFLICT ON CONSTRAINT registry_syncs_project_id_source_id_delivery_key DO NOTHING
    RETURNING s.project_id, s.id, true;
  IF NOT FOUND THEN
    RETURN QUERY SELECT s.project_id, s.id, false FROM registry_syncs s
      WHERE s.source_id = p_source AND s.delivery = p_delivery;
  END IF;
END $$"""

# Everything that a sync has staged, in one statement; for a bad outcome among them whoever calls rolls back.
PUBLISH_STAGED = f"""
CREATE FUNCTION publish_staged(p_project uuid, p_sync uuid, p_user uuid, p_credential uuid, p_quota bigint)
RETURNS TABLE (name text, outcome text, version text) LANGUAGE sql VOLATILE {FIXED} AS $$
  SELECT s.name, d.outcome, d.version
  FROM (SELECT * FROM registry_staged WHERE project_id = p_project AND sync_id = p_sync ORDER BY name) s,
    LATERAL publish_component(s.project_id, s.version_id, s.component_id, s.name, s.version, s.precedence, s.hash,
      s.type, s.title, s.description, s.words, s.item, s.props, s.state, s.size, s.sums, s.sizes, p_user, p_credential,
      NULL, p_quota) d
$$"""

# As in 0010, where the first line is from.
KEYS_SEALED = """
  SELECT 'provider_keys.sealed', encode(substr(k.sealed, 2, 4), 'hex'), count(*) FROM provider_keys k GROUP BY 2"""
SOURCES_SEALED = """
  SELECT 'registry_sources.secret', encode(substr(s.secret, 2, 4), 'hex'), count(*) FROM registry_sources s
  WHERE s.secret IS NOT NULL GROUP BY 2"""

APP_FUNCTIONS = {"publish_staged(uuid, uuid, uuid, uuid, bigint)": PUBLISH_STAGED}
OPS_FUNCTIONS = {
    "registry_webhook(uuid)": REGISTRY_WEBHOOK,
    "request_registry_sync(uuid, uuid, text)": REQUEST_REGISTRY_SYNC,
}
SHOWN = "project_id, id, url, kind, created_by, credential_id, created_at, secret_at"


def upgrade() -> None:
    _create_tables()
    readable, writable = "project_id = (SELECT readable_project())", "project_id = (SELECT writable_project())"
    writes = f"{writable} AND (SELECT acting_end_user()) IS NULL"
    for table in ("registry_sources", "registry_syncs", "registry_staged"):
        rls.protect(table, select=readable, insert=writes, update=writes, delete=writes)
    # The secret is written by its page and read for webhooks alone.
    rls.grant(f"SELECT ({SHOWN}), INSERT, UPDATE (secret, secret_at), DELETE", "registry_sources")
    rls.grant("SELECT, INSERT, UPDATE", "registry_syncs")
    rls.grant("SELECT, INSERT, DELETE", "registry_staged")
    for signature, body in APP_FUNCTIONS.items():
        op.execute(body)
        rls.allow(signature)
    for signature, body in OPS_FUNCTIONS.items():
        op.execute(body)
        rls.allow(signature, ops=True)
    op.execute(_sealed_under(KEYS_SEALED, SOURCES_SEALED))


def _sealed_under(*counts: str) -> str:
    return (
        "CREATE OR REPLACE FUNCTION sealed_under() RETURNS TABLE (place text, key_id text, secrets bigint)"
        f" LANGUAGE sql STABLE {SECURED} AS $$ {' UNION ALL '.join(counts)} $$"
    )


def _create_tables() -> None:
    now = sa.text("now()")
    moment = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "registry_sources",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("secret_at", moment, nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.CheckConstraint("kind IN ('manifest', 'files')", name=op.f("registry_sources_kind_known")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("registry_sources_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("registry_sources_pkey")),
        sa.UniqueConstraint("project_id", "url", name=op.f("registry_sources_project_id_url_key")),
    )
    op.create_index(op.f("registry_sources_id_idx"), "registry_sources", ["id"])
    op.create_table(
        "registry_syncs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("published", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unchanged", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("faults", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("started_at", moment, nullable=True),
        sa.Column("ended_at", moment, nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'superseded')",
            name=op.f("registry_syncs_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "source_id"],
            ["registry_sources.project_id", "registry_sources.id"],
            name=op.f("registry_syncs_project_id_source_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("registry_syncs_pkey")),
        sa.UniqueConstraint(
            "project_id", "source_id", "delivery", name=op.f("registry_syncs_project_id_source_id_delivery_key")
        ),
    )
    op.create_index(
        op.f("registry_syncs_project_id_source_id_id_idx"), "registry_syncs", ["project_id", "source_id", "id"]
    )
    op.create_table(
        "registry_staged",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("sync_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("component_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("precedence", sa.Text(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("props", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sums", sa.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("sizes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("own", sa.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "sync_id"],
            ["registry_syncs.project_id", "registry_syncs.id"],
            name=op.f("registry_staged_project_id_sync_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "sync_id", "name", name=op.f("registry_staged_pkey")),
    )


def downgrade() -> None:
    op.execute(_sealed_under(KEYS_SEALED))
    for signature in (*OPS_FUNCTIONS, *APP_FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
    for table in ("registry_staged", "registry_syncs", "registry_sources"):
        op.drop_table(table)
