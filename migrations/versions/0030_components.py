"""the component registry: components, their versions and contents, and how they are found"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0030"
down_revision = "0040"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
FIXED = "SET search_path = pg_catalog, public"

# As count_stored of 0007, for contents: they count against the same quota, but are no files.
COUNT_BLOBS = f"""
CREATE FUNCTION count_blobs() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO project_storage AS s (project_id, bytes)
      SELECT b.project_id, sum(b.size) FROM added b GROUP BY b.project_id
      ON CONFLICT (project_id) DO UPDATE SET bytes = s.bytes + excluded.bytes;
  ELSE
    UPDATE project_storage s SET bytes = s.bytes - g.bytes
      FROM (SELECT b.project_id, sum(b.size) AS bytes FROM removed b GROUP BY b.project_id) g
      WHERE s.project_id = g.project_id;
  END IF;
  RETURN NULL;
END $$"""
EACH = "FOR EACH STATEMENT EXECUTE FUNCTION count_blobs()"
TRIGGERS = (
    f"CREATE TRIGGER blobs_added AFTER INSERT ON component_blobs REFERENCING NEW TABLE AS added {EACH}",
    f"CREATE TRIGGER blobs_removed AFTER DELETE ON component_blobs REFERENCING OLD TABLE AS removed {EACH}",
)

# Makes a component say what its newest version says that is not yanked, releases before pre-releases (whose precedence
# does not end in '~'). An embedding stays as long as the words it is of.
REFRESH_COMPONENT = f"""
CREATE FUNCTION refresh_component(p_project uuid, p_component uuid) RETURNS void LANGUAGE sql VOLATILE {FIXED} AS $$
  UPDATE components c SET
    latest_id = v.id, type = coalesce(v.type, ''), title = coalesce(v.title, ''),
    description = coalesce(v.description, ''), words = coalesce(v.words, ''),
    search = setweight(to_tsvector('simple', regexp_replace(
          c.name || ' ' || regexp_replace(c.name, '([a-z0-9])([A-Z])', '\\1 \\2', 'g'), '[-_.]+', ' ', 'g')), 'A')
      || setweight(to_tsvector('english', coalesce(v.title, '')), 'B')
      || setweight(to_tsvector('english', coalesce(v.description, '')), 'C')
      || setweight(to_tsvector('english', coalesce(v.words, '')), 'D'),
    embedding = CASE WHEN c.words = v.words THEN c.embedding END, updated_at = now()
  FROM (SELECT) nothing LEFT JOIN LATERAL (
    SELECT n.* FROM component_versions n
    WHERE n.project_id = p_project AND n.component_id = p_component AND n.status <> 'yanked'
    ORDER BY right(n.precedence, 1) = '~' DESC, n.precedence DESC LIMIT 1) v ON true
  WHERE c.project_id = p_project AND c.id = p_component
$$"""

# One version in the one round trip of its transaction; whoever calls rolls back unless it was 'published' or
# 'unchanged'. Without p_version: nothing new if the newest one is the same, else its next patch, 1.0.0 at first.
PUBLISH_COMPONENT = f"""
CREATE FUNCTION publish_component(
  p_project uuid, p_id uuid, p_component uuid, p_name text, p_version text, p_precedence text, p_hash bytea,
  p_type text, p_title text, p_description text, p_words text, p_item text, p_props text, p_state text, p_size bigint,
  p_sums bytea[], p_sizes bigint[], p_user uuid, p_credential uuid, p_run uuid, p_quota bigint,
  OUT outcome text, OUT version_id uuid, OUT version text, OUT published_at timestamptz,
  OUT used bigint, OUT quota bigint
) LANGUAGE plpgsql VOLATILE {FIXED} AS $$
DECLARE
  component uuid;
  same boolean;
  parts text[];
BEGIN
  IF readable_project() IS DISTINCT FROM p_project THEN
    outcome := 'project_not_found';
    RETURN;
  ELSIF writable_project() IS DISTINCT FROM p_project OR acting_end_user() IS NOT NULL THEN
    outcome := 'role_insufficient';
    RETURN;
  END IF;
  INSERT INTO components AS c (project_id, id, name) VALUES (p_project, p_component, p_name)
    ON CONFLICT (project_id, name) DO UPDATE SET updated_at = c.updated_at RETURNING c.id INTO component;
  SELECT v.id, v.version, v.created_at, v.hash = p_hash INTO version_id, version, published_at, same
    FROM component_versions v JOIN components c ON c.project_id = v.project_id AND c.id = v.component_id
    WHERE v.project_id = p_project AND v.component_id = component
      AND CASE WHEN p_version IS NULL THEN v.id = c.latest_id ELSE v.version = p_version END;
  IF same THEN
    outcome := 'unchanged';
    RETURN;
  ELSIF p_version IS NOT NULL AND version_id IS NOT NULL THEN
    outcome := 'version_taken';
    RETURN;
  END IF;
  version_id := p_id;
  version := p_version;
  IF p_version IS NULL THEN
    SELECT regexp_match(v.version, '^(\\d+)\\.(\\d+)\\.(\\d+)') INTO parts FROM component_versions v
      WHERE v.project_id = p_project AND v.component_id = component AND right(v.precedence, 1) = '~'
      ORDER BY v.precedence DESC LIMIT 1;
    parts := coalesce(parts, '{{1,0,-1}}');
    parts[3] := parts[3]::bigint + 1;
    version := array_to_string(parts, '.');
    p_precedence := lpad(parts[1], 16, '0') || lpad(parts[2], 16, '0') || lpad(parts[3], 16, '0') || '~';
  END IF;
  INSERT INTO component_blobs (project_id, sha256, size)
    SELECT p_project, b.sum, b.size FROM unnest(p_sums, p_sizes) b(sum, size) ORDER BY b.sum ON CONFLICT DO NOTHING;
  SELECT s.bytes, coalesce(s.quota, p_quota) INTO used, quota FROM project_storage s WHERE s.project_id = p_project;
  IF used > quota THEN
    outcome := 'quota_exceeded';
    RETURN;
  END IF;
  INSERT INTO component_versions (project_id, id, component_id, version, precedence, hash, type, title, description,
      words, item, props, state, size, created_by, credential_id, run_id)
    VALUES (p_project, p_id, component, version, p_precedence, p_hash, p_type, p_title, p_description, p_words, p_item,
      p_props, p_state, p_size, p_user, p_credential, p_run)
    RETURNING created_at INTO published_at;
  PERFORM refresh_component(p_project, component);
  outcome := 'published';
END $$"""

# One version: this very one, yanked or not, else the newest of a range that is not yanked, releases first.
AT_ARGUMENTS = "p_project uuid, p_name text, p_exact text, p_low text, p_high text, p_prereleases boolean"
COMPONENT_AT = f"""
CREATE FUNCTION component_at({AT_ARGUMENTS}) RETURNS SETOF component_versions LANGUAGE sql STABLE ROWS 1 {FIXED} AS $$
  SELECT v.* FROM components c JOIN component_versions v ON v.project_id = c.project_id AND v.component_id = c.id
  WHERE c.project_id = p_project AND c.name = p_name AND CASE WHEN p_exact IS NOT NULL THEN v.version = p_exact
    ELSE v.status <> 'yanked' AND v.precedence >= p_low AND v.precedence < p_high
      AND (p_prereleases OR right(v.precedence, 1) = '~') END
  ORDER BY right(v.precedence, 1) = '~' DESC, v.precedence DESC LIMIT 1
$$"""

# The same as whoever asks from outside, for a project that has made its registry public.
PUBLIC_COMPONENT_AT = f"""
CREATE FUNCTION public_component_at({AT_ARGUMENTS}) RETURNS SETOF component_versions
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT v.* FROM projects p, component_at(p_project, p_name, p_exact, p_low, p_high, p_prereleases) v
  WHERE p.id = p_project AND p.registry_public
$$"""

# Components whose embedding is near, best first; none where pgvector is not installed. Not for callers: it asks for no
# tenant. What is far from the best, or from the question, is no answer.
NEAREST_COMPONENTS = f"""
CREATE FUNCTION nearest_components(p_project uuid, p_type text, p_vector real[], p_model text)
RETURNS TABLE (id uuid, place bigint) LANGUAGE plpgsql STABLE {FIXED} AS $$
DECLARE
  home text;
BEGIN
  SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector' AND cardinality(p_vector) > 0;
  IF home IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format($near$
    WITH near AS (
      SELECT c.id, 1 - (c.embedding::%1$I.vector OPERATOR(%1$I.<=>) $3::%1$I.vector) AS alike FROM components c
      WHERE c.project_id = $1 AND c.latest_id IS NOT NULL AND ($2 IS NULL OR c.type = $2)
        AND c.embedding_model = $4 AND cardinality(c.embedding) = cardinality($3)
      ORDER BY alike DESC, c.id LIMIT 50)
    SELECT n.id, row_number() OVER (ORDER BY n.alike DESC, n.id) FROM near n
    WHERE n.alike >= greatest(0.25, 0.7 * (SELECT max(m.alike) FROM near m))
  $near$, home) USING p_project, p_type, p_vector, p_model;
END $$"""

# What a project has, best first: by name without words to look for; else by words (the start of one counts, as does a
# misspelt one) joined with what is near, by reciprocal ranks; the very name before all. After p_after in that order.
RANKED_ARGUMENTS = (
    "p_project uuid, p_query text, p_type text, p_vector real[], p_model text, p_after uuid, p_skip bigint,"
    " p_limit integer"
)
RANKED = "id uuid, name text, version_id uuid, total bigint"
RANKED_COMPONENTS = f"""
CREATE FUNCTION ranked_components({RANKED_ARGUMENTS}) RETURNS TABLE ({RANKED}) LANGUAGE plpgsql STABLE {FIXED} AS $$
DECLARE
  asked text := nullif(btrim(lower(p_query)), '');
  dashed text := regexp_replace(asked, '[\\s_.]+', '-', 'g');
  wanted tsquery;
BEGIN
  SELECT string_agg(quote_literal(w) || ':*', ' | ')::tsquery INTO wanted
    FROM regexp_split_to_table(asked, '[^[:alnum:]]+') w WHERE w <> '';
  wanted := coalesce(wanted, ''::tsquery) || replace(plainto_tsquery('english', asked)::text, '&', '|')::tsquery;
  RETURN QUERY
  WITH mine AS (
    SELECT c.* FROM components c
    WHERE c.project_id = p_project AND c.latest_id IS NOT NULL AND (p_type IS NULL OR c.type = p_type)
  ), scored AS (
    SELECT m.id, lower(m.name) IN (asked, dashed) AS exact,
      CASE WHEN starts_with(lower(m.name), dashed) THEN 1 ELSE 0 END + 2 * ts_rank(m.search, wanted)
        + similarity(m.name, asked) + word_similarity(asked, m.title || ' ' || m.description) AS score
    FROM mine m
    WHERE asked IS NOT NULL AND (m.search @@ wanted OR word_similarity(asked, m.name) > 0.4
      OR similarity(m.name, asked) > 0.3 OR word_similarity(asked, m.title || ' ' || m.description) > 0.5)
  ), placed AS (
    SELECT s.id, s.exact, row_number() OVER (ORDER BY s.exact DESC, s.score DESC, s.id) AS place FROM scored s
  ), fused AS (
    SELECT coalesce(p.id, n.id) AS id, coalesce(p.exact, false) AS exact,
      coalesce(1.0 / (60 + p.place), 0) + coalesce(1.0 / (60 + n.place), 0) AS score
    FROM placed p FULL JOIN nearest_components(p_project, p_type, p_vector, p_model) n ON n.id = p.id
    WHERE asked IS NOT NULL
    UNION ALL SELECT m.id, false, 0 FROM mine m WHERE asked IS NULL
  ), ordered AS (
    SELECT f.id, m.name, m.latest_id, count(*) OVER () AS total,
      row_number() OVER (ORDER BY f.exact DESC, f.score DESC, m.name, f.id) AS place
    FROM fused f JOIN mine m ON m.id = f.id
  )
  SELECT o.id, o.name, o.latest_id, o.total FROM ordered o
  WHERE o.place > coalesce((SELECT a.place FROM ordered a WHERE a.id = p_after), 0) + p_skip
  ORDER BY o.place LIMIT p_limit;
END $$"""
RANKED_PLACES = "p_project, p_query, p_type, p_vector, p_model, p_after, p_skip, p_limit"

# Not under row-level security, where words could use no index: it asks for the project by itself.
SEARCH_COMPONENTS = f"""
CREATE FUNCTION search_components({RANKED_ARGUMENTS}) RETURNS TABLE ({RANKED}) LANGUAGE plpgsql STABLE {SECURED} AS $$
BEGIN
  IF readable_project() = p_project THEN
    RETURN QUERY SELECT * FROM ranked_components({RANKED_PLACES});
  END IF;
END $$"""
LISTED = f"{RANKED}, item text, props text, state text, version text, status text, reason text, hash bytea"
PUBLIC_COMPONENTS = f"""
CREATE FUNCTION public_components(p_project uuid, p_query text, p_type text, p_skip bigint, p_limit integer)
RETURNS TABLE ({LISTED}) LANGUAGE sql STABLE {SECURED} AS $$
  SELECT r.*, v.item, v.props, v.state, v.version, v.status, v.reason, v.hash
  FROM projects p, ranked_components(p_project, p_query, p_type, NULL, NULL, NULL, p_skip, p_limit) r
  JOIN component_versions v ON v.project_id = p_project AND v.id = r.version_id
  WHERE p.id = p_project AND p.registry_public
$$"""

# What people may know of a public registry before they install from it; no row otherwise.
PUBLIC_REGISTRY = f"""
CREATE FUNCTION public_registry(p_project uuid) RETURNS TABLE (name text, namespace text)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT p.name, p.registry_namespace FROM projects p WHERE p.id = p_project AND p.registry_public
$$"""

# As projects_with_files of 0008.
PROJECTS_WITH_COMPONENTS = f"""
CREATE FUNCTION projects_with_components(p_projects uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE {SECURED} AS $$
  SELECT m.project_id FROM project_members m
  WHERE m.project_id = ANY (p_projects) AND m.user_id = (SELECT acting_user())
    AND (SELECT coalesce(bound_project(), m.project_id)) = m.project_id
    AND EXISTS (SELECT FROM components c WHERE c.project_id = m.project_id AND c.latest_id IS NOT NULL)
$$"""

AT = "uuid, text, text, text, text, boolean"
RANKING = "uuid, text, text, real[], text, uuid, bigint, integer"
APP_FUNCTIONS = {
    "count_blobs()": COUNT_BLOBS,
    "refresh_component(uuid, uuid)": REFRESH_COMPONENT,
    "publish_component(uuid, uuid, uuid, text, text, text, bytea, text, text, text, text, text, text, text, bigint,"
    " bytea[], bigint[], uuid, uuid, uuid, bigint)": PUBLISH_COMPONENT,
    f"component_at({AT})": COMPONENT_AT,
    f"public_component_at({AT})": PUBLIC_COMPONENT_AT,
    "nearest_components(uuid, text, real[], text)": NEAREST_COMPONENTS,
    f"ranked_components({RANKING})": RANKED_COMPONENTS,
    f"search_components({RANKING})": SEARCH_COMPONENTS,
    "public_components(uuid, text, text, bigint, integer)": PUBLIC_COMPONENTS,
    "public_registry(uuid)": PUBLIC_REGISTRY,
    "projects_with_components(uuid[])": PROJECTS_WITH_COMPONENTS,
}
INNER = ("nearest_components", "ranked_components")
"""Called by the others alone."""
KINDS = "kind IN ({})"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.add_column(
        "projects", sa.Column("registry_public", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column(
        "projects", sa.Column("registry_namespace", sa.Text(), server_default=sa.text("'innkeeper'"), nullable=False)
    )
    _create_tables()
    readable, writable = "project_id = (SELECT readable_project())", "project_id = (SELECT writable_project())"
    writes = f"{writable} AND (SELECT acting_end_user()) IS NULL"
    for table, update in (("components", writes), ("component_versions", writes), ("component_blobs", "false")):
        rls.protect(table, select=readable, insert=writes, update=update, delete="false")
    rls.grant("SELECT, INSERT, UPDATE", "components")
    # What was published stays as it was: only what is said about it changes.
    rls.grant("SELECT, INSERT, UPDATE (status, reason, status_at)", "component_versions")
    rls.grant("SELECT, INSERT", "component_blobs")
    for signature, body in APP_FUNCTIONS.items():
        op.execute(body)
        if signature.startswith(INNER):
            op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        else:
            rls.allow(signature)
    for trigger in TRIGGERS:
        op.execute(trigger)
    # A key that may do everything there was may do everything there is.
    op.execute(
        "UPDATE credentials SET scopes = scopes || '{registry:read,registry:write}'::text[] WHERE scopes @>"
        " '{projects:read,projects:write,runs:read,runs:write,storage:read,storage:write}'::text[]"
        " AND NOT scopes && '{registry:read}'::text[]"
    )
    _kinds(add="feed")


def _kinds(*, add: str = "", drop: str = "") -> None:
    """Change the kinds of credentials, whichever there are."""
    there = op.get_bind().scalar(
        sa.text(
            "SELECT array_to_string(array(SELECT m[1] FROM"
            " regexp_matches(pg_get_constraintdef(oid), '''(\\w+)''', 'g') m), ',')"
            " FROM pg_constraint WHERE conname = 'credentials_kind_known'"
        )
    )
    kinds = [kind for kind in (*str(there).split(","), add) if kind and kind != drop]
    op.drop_constraint(op.f("credentials_kind_known"), "credentials", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in dict.fromkeys(kinds))
    op.create_check_constraint(op.f("credentials_kind_known"), "credentials", KINDS.format(listed))


def _create_tables() -> None:
    now = sa.text("now()")
    moment = postgresql.TIMESTAMP(timezone=True)
    empty = sa.text("''")
    op.create_table(
        "components",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("latest_id", sa.Uuid(), nullable=True),
        sa.Column("type", sa.Text(), server_default=empty, nullable=False),
        sa.Column("title", sa.Text(), server_default=empty, nullable=False),
        sa.Column("description", sa.Text(), server_default=empty, nullable=False),
        sa.Column("words", sa.Text(), server_default=empty, nullable=False),
        sa.Column("search", postgresql.TSVECTOR(), server_default=sa.text("''::tsvector"), nullable=False),
        sa.Column("embedding", sa.ARRAY(sa.REAL()), nullable=True),
        sa.Column("embedding_model", sa.Text(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("updated_at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("components_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("components_pkey")),
        sa.UniqueConstraint("project_id", "name", name=op.f("components_project_id_name_key")),
    )
    op.create_index("components_search_idx", "components", ["search"], postgresql_using="gin")
    op.create_index(
        "components_name_trgm_idx",
        "components",
        ["name"],
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.create_table(
        "component_versions",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("component_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("precedence", sa.Text(collation="C"), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("props", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'published'"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=empty, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("status_at", moment, server_default=now, nullable=False),
        sa.CheckConstraint(
            "status IN ('published', 'deprecated', 'yanked')", name=op.f("component_versions_status_known")
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "component_id"],
            ["components.project_id", "components.id"],
            name=op.f("component_versions_project_id_component_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("component_versions_pkey")),
        sa.UniqueConstraint(
            "project_id",
            "component_id",
            "version",
            name=op.f("component_versions_project_id_component_id_version_key"),
        ),
    )
    op.create_index(
        op.f("component_versions_project_id_component_id_precedence_idx"),
        "component_versions",
        ["project_id", "component_id", "precedence"],
    )
    op.create_table(
        "component_blobs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("component_blobs_sha256_whole")),
        sa.CheckConstraint("size >= 0", name=op.f("component_blobs_size_known")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("component_blobs_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "sha256", name=op.f("component_blobs_pkey")),
    )


def downgrade() -> None:
    op.execute("DELETE FROM credentials WHERE kind = 'feed'")
    _kinds(drop="feed")
    op.execute(
        "UPDATE credentials SET scopes = array_remove(array_remove(scopes, 'registry:read'), 'registry:write')"
        " WHERE scopes && '{registry:read,registry:write}'::text[]"
    )
    for signature in reversed(APP_FUNCTIONS):
        if not signature.startswith("count_blobs"):
            op.execute(f"DROP FUNCTION {signature}")
    for table in ("component_blobs", "component_versions", "components"):
        op.drop_table(table)
    op.execute("DROP FUNCTION count_blobs()")
    op.drop_column("projects", "registry_namespace")
    op.drop_column("projects", "registry_public")
