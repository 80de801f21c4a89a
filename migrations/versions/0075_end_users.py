"""end users: publishable keys, short tokens for one end user, where their own tokens come from, and what they see"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0075"
down_revision = "0085"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
LIVE = "c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()) AND u.disabled_at IS NULL"
SETTING = "nullif(current_setting('app.{}', true), '')::uuid"
CREDENTIAL, END_USER = (SETTING.format(name) for name in ("credential_id", "end_user_id"))
JOB = "nullif(current_setting('app.job_id', true), '')::bigint"
WORKED_ON = f"j.id = {JOB} AND j.queue_manager_id = {SETTING.format('worker_id')} AND j.status = 'picked'"
KINDS_BEFORE = "'secret', 'link', 'session', 'feed', 'oauth'"
KINDS = f"{KINDS_BEFORE}, 'publishable', 'end_user'"

# A key of the kind 'publishable' stands for nobody until it is told for whom: by itself it acts for an end user who
# owns nothing, so that the policies show it nothing, whatever its owner may see.
ACTING_END_USER = """
CREATE OR REPLACE FUNCTION acting_end_user() RETURNS uuid LANGUAGE plpgsql STABLE PARALLEL SAFE {secured} AS $$ BEGIN
  IF coalesce(current_setting('app.job_id', true), '') <> '' THEN
    RETURN (SELECT j.end_user_id FROM ops.pgqueuer j WHERE {worked_on});
  END IF;
  RETURN ({answer});
END $$"""
NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
OF_CREDENTIAL = f"SELECT c.end_user_id FROM credentials c WHERE c.id = {CREDENTIAL}"
NOW = (
    f"SELECT coalesce((SELECT c.end_user_id FROM credentials c WHERE c.id = {CREDENTIAL}), {END_USER},"
    f" (SELECT {NOBODY} FROM credentials c WHERE c.id = {CREDENTIAL} AND c.kind = 'publishable'))"
)
BEFORE = f"SELECT coalesce(({OF_CREDENTIAL}), {END_USER})"

# What the owner of a key may do, its end users may not: these two functions answer them with nothing.
NOT_OF_END_USERS = ("administered_project()", "writing_user()")
ASIDE = "(SELECT acting_end_user()) IS NULL"
MINE = "user_id = (SELECT acting_user()) AND coalesce(project_id = ANY ((SELECT bound_projects())::uuid[]), true)"
# What was open to whoever acts as the owner of a key, and is closed to end users: (table, command, condition).
CLOSED = (
    ("users", "SELECT", "id = (SELECT acting_user())"),
    (
        "project_members",
        "SELECT",
        f"({MINE}) OR (project_id = (SELECT readable_project()))",
    ),
    (
        "credentials",
        "SELECT",
        "(user_id = (SELECT acting_user())) OR (project_id = (SELECT administered_project()))",
    ),
    ("audit", "SELECT", "(user_id = (SELECT acting_user())) OR (project_id = (SELECT administered_project()))"),
    ("house_mails", "SELECT", "user_id = (SELECT acting_user())"),
    ("suppressions", "SELECT", "project_id = (SELECT readable_project())"),
    ("registry_sources", "SELECT", "project_id = (SELECT readable_project())"),
    ("registry_syncs", "SELECT", "project_id = (SELECT readable_project())"),
    ("registry_staged", "SELECT", "project_id = (SELECT readable_project())"),
)

# A token of ours is a credential's own, one of the short-lived ones of a credential that an OAuth client holds, or one
# of an end user. ``origins``: of which pages' requests it may come with; of other kinds of credentials none says.
AUTHENTICATE = f"""
CREATE FUNCTION authenticate(presented bytea)
RETURNS TABLE (credential_id uuid, user_id uuid, project_id uuid, end_user_id uuid, kind text, scopes text[],
               read_only boolean, expires_at timestamptz, project_ids uuid[], audience text, origins text[])
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, c.scopes, c.read_only, c.expires_at, c.project_ids,
         c.audience, c.origins
  FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.token_hash = presented AND {LIVE}
  UNION ALL
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, t.scopes, c.read_only, t.expires_at, c.project_ids,
         c.audience, NULL
  FROM oauth_access_tokens t JOIN credentials c ON c.id = t.credential_id JOIN users u ON u.id = c.user_id
  WHERE t.token_hash = presented AND t.expires_at > now() AND {LIVE}
  UNION ALL
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, t.scopes, c.read_only, t.expires_at, c.project_ids,
         c.audience, k.origins
  FROM end_user_tokens t JOIN credentials c ON c.id = t.credential_id JOIN users u ON u.id = c.user_id
    JOIN credentials k ON k.id = c.parent_id
  WHERE t.token_hash = presented AND t.expires_at > now() AND {LIVE}
$$"""
AUTHENTICATE_BEFORE = f"""
CREATE FUNCTION authenticate(presented bytea)
RETURNS TABLE (credential_id uuid, user_id uuid, project_id uuid, end_user_id uuid, kind text, scopes text[],
               read_only boolean, expires_at timestamptz, project_ids uuid[], audience text)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, c.scopes, c.read_only, c.expires_at, c.project_ids,
         c.audience
  FROM credentials c JOIN users u ON u.id = c.user_id WHERE c.token_hash = presented AND {LIVE}
  UNION ALL
  SELECT c.id, c.user_id, c.project_id, c.end_user_id, c.kind, t.scopes, c.read_only, t.expires_at, c.project_ids,
         c.audience
  FROM oauth_access_tokens t JOIN credentials c ON c.id = t.credential_id JOIN users u ON u.id = c.user_id
  WHERE t.token_hash = presented AND t.expires_at > now() AND {LIVE}
$$"""

# With a key goes what it gave its end users.
REVOKE_CHILDREN = f"""
CREATE FUNCTION revoke_children() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  UPDATE credentials SET revoked_at = NEW.revoked_at WHERE parent_id = NEW.id AND revoked_at IS NULL;
  RETURN NULL;
END $$"""

# The key that speaks proves itself by its hash: who may exchange tokens with it, and in which project. A key of several
# projects names one, or means the first of its user's.
EXCHANGING_KEY = f"""
CREATE FUNCTION exchanging_key(p_key bytea, p_project uuid)
RETURNS TABLE (id uuid, kind text, user_id uuid, project_id uuid, scopes text[], origins text[], expires_at timestamptz)
LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, public AS $$
  SELECT c.id, c.kind, c.user_id, m.project_id, c.scopes, c.origins, c.expires_at
  FROM credentials c JOIN users u ON u.id = c.user_id JOIN project_members m ON m.user_id = c.user_id
  WHERE c.token_hash = p_key AND c.kind IN ('secret', 'publishable') AND NOT c.read_only AND m.role <> 'viewer'
    AND (c.project_id IS NULL OR c.project_id = m.project_id)
    AND (c.project_ids IS NULL OR m.project_id = ANY (c.project_ids))
    AND (p_project IS NULL OR m.project_id = p_project) AND {LIVE}
  ORDER BY m.project_id LIMIT 1
$$"""
FIND_EXCHANGE = f"""
CREATE FUNCTION find_exchange(p_key bytea, p_project uuid)
RETURNS TABLE (key_id uuid, kind text, project_id uuid, origins text[], anonymous_sessions boolean, sources jsonb)
LANGUAGE sql STABLE ROWS 1 {SECURED} AS $$
  SELECT k.id, k.kind, k.project_id, k.origins, p.anonymous_sessions,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'kind', s.kind, 'issuer', s.issuer,
        'audience', s.audience, 'url', s.url, 'public_key', s.public_key, 'sealed', encode(s.sealed, 'base64'))
        ORDER BY s.id), '[]'::jsonb)
     FROM token_sources s WHERE s.project_id = k.project_id)
  FROM exchanging_key(p_key, p_project) k JOIN projects p ON p.id = k.project_id
$$"""

# A token for one end user, whom the first one makes. ``p_known``: only one who was here within that time. What an end
# user has by a key is one credential while the tokens change, so that limits and idempotency keys go on.
ISSUE = f"""
CREATE FUNCTION issue_end_user_token(
  p_key bytea, p_project uuid, p_issuer text, p_external text, p_known interval, p_scopes text[], p_until timestamptz,
  p_life interval, p_token bytea, p_end_user uuid, p_credential uuid,
  OUT outcome text, OUT whom uuid, OUT until timestamptz, OUT given text[]
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  key record;
  held uuid;
BEGIN
  SELECT * INTO key FROM exchanging_key(p_key, p_project);
  IF NOT FOUND THEN
    outcome := 'key';
    RETURN;
  END IF;
  given := CASE WHEN key.kind = 'publishable' THEN p_scopes
    ELSE ARRAY(SELECT s FROM unnest(p_scopes) s WHERE s = ANY (key.scopes)) END;
  until := least(now() + p_life, p_until, key.expires_at);
  IF until <= now() THEN
    outcome := 'expired';
    RETURN;
  END IF;
  IF p_known IS NULL THEN
    INSERT INTO end_users AS e (project_id, id, issuer, external_id)
      VALUES (key.project_id, p_end_user, p_issuer, p_external)
      ON CONFLICT (project_id, issuer, external_id) DO UPDATE SET seen_at = now() RETURNING e.id INTO whom;
  ELSE
    UPDATE end_users e SET seen_at = now()
      WHERE e.project_id = key.project_id AND e.issuer = p_issuer AND e.external_id = p_external
        AND e.seen_at > now() - p_known RETURNING e.id INTO whom;
    IF NOT FOUND THEN
      outcome := 'unknown';
      RETURN;
    END IF;
  END IF;
  INSERT INTO credentials AS c (id, kind, user_id, project_id, end_user_id, parent_id, hint, scopes, expires_at)
    VALUES (p_credential, 'end_user', key.user_id, key.project_id, whom, key.id, '', p_scopes, key.expires_at)
    ON CONFLICT (parent_id, end_user_id) WHERE revoked_at IS NULL AND parent_id IS NOT NULL
    DO UPDATE SET kind = c.kind RETURNING c.id INTO held;
  INSERT INTO end_user_tokens (token_hash, credential_id, scopes, expires_at)
    VALUES (p_token, held, given, until);
  outcome := 'issued';
END $$"""

# A bare name for an end user, which only the project's own server may give: who says it in a browser is somebody else,
# and only where the project believes that at all.
NAME = f"""
CREATE FUNCTION name_end_user(
  p_credential uuid, p_user uuid, p_project uuid, p_external text, p_end_user uuid,
  OUT outcome text, OUT whom uuid
) LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  key record;
BEGIN
  SELECT c.kind, p.user_keys_from_browsers AS believed INTO key
    FROM credentials c JOIN users u ON u.id = c.user_id JOIN project_members m ON m.user_id = c.user_id
      JOIN projects p ON p.id = m.project_id
    WHERE c.id = p_credential AND c.user_id = p_user AND m.project_id = p_project AND c.end_user_id IS NULL
      AND (c.project_id IS NULL OR c.project_id = m.project_id)
      AND (c.project_ids IS NULL OR m.project_id = ANY (c.project_ids))
      AND m.role <> 'viewer' AND NOT c.read_only AND {LIVE};
  IF NOT FOUND THEN
    outcome := 'unknown';
  ELSIF key.kind = 'publishable' AND NOT key.believed THEN
    outcome := 'not_believed';
  ELSE
    INSERT INTO end_users AS e (project_id, id, issuer, external_id)
      VALUES (p_project, p_end_user, CASE WHEN key.kind = 'publishable' THEN '~unverified' ELSE '' END, p_external)
      ON CONFLICT (project_id, issuer, external_id) DO UPDATE SET seen_at = now() RETURNING e.id INTO whom;
    outcome := 'named';
  END IF;
END $$"""

# For requests that come before anybody has said with which key: whether a key of anybody lists the page's origin.
KNOWN_ORIGIN = f"""
CREATE FUNCTION is_known_origin(p_origin text) RETURNS boolean LANGUAGE sql STABLE {SECURED} AS $$
  SELECT EXISTS (SELECT FROM credentials c JOIN users u ON u.id = c.user_id
                 WHERE c.origins @> ARRAY[p_origin] AND {LIVE})
$$"""

# A person makes a key of the project of the transaction, or ends one. Keys that act for others, or for nobody, are a
# matter of its owners and admins; a secret key has its maker's rights, so that whoever may write may have one.
ADD_KEY = f"""
CREATE FUNCTION add_key(
  p_id uuid, p_kind text, p_project uuid, p_name text, p_hint text, p_hash bytea, p_scopes text[], p_origins text[],
  p_read_only boolean, p_expires timestamptz
) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  IF acting_person() IS NULL OR p_project IS DISTINCT FROM
      (CASE WHEN p_kind = 'secret' THEN writable_project() ELSE administered_project() END) THEN
    RETURN false;
  END IF;
  INSERT INTO credentials (id, kind, user_id, project_id, name, hint, token_hash, scopes, origins, read_only,
      expires_at)
    VALUES (p_id, p_kind, acting_person(), p_project, p_name, p_hint, p_hash, p_scopes, p_origins, p_read_only,
      p_expires);
  RETURN true;
END $$"""
END_KEY = f"""
CREATE FUNCTION end_key(p_key uuid, p_project uuid) RETURNS boolean LANGUAGE sql VOLATILE {SECURED} AS $$
  UPDATE credentials SET revoked_at = now()
    WHERE id = p_key AND project_id = p_project AND kind IN ('secret', 'feed', 'publishable') AND revoked_at IS NULL
      AND acting_person() IS NOT NULL
      AND (p_project = administered_project() OR (user_id = acting_person() AND p_project = readable_project()))
    RETURNING true
$$"""

# Ops. Tokens that have expired; credentials of end users that had none for a month; visitors without a name who left
# nothing behind and have not been here for as long.
CLEAN = f"""
CREATE FUNCTION clean_end_users(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH tokens AS (
    DELETE FROM end_user_tokens WHERE token_hash IN (
      SELECT token_hash FROM end_user_tokens WHERE expires_at < now() LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), held AS (
    DELETE FROM credentials WHERE id IN (
      SELECT c.id FROM credentials c JOIN end_users e ON e.project_id = c.project_id AND e.id = c.end_user_id
      WHERE c.kind = 'end_user' AND e.seen_at < now() - interval '30 days'
        AND NOT EXISTS (SELECT FROM end_user_tokens t WHERE t.credential_id = c.id)
        AND NOT EXISTS (SELECT FROM runs r WHERE r.credential_id = c.id AND r.status IN ('queued', 'running'))
      LIMIT p_limit FOR UPDATE OF c SKIP LOCKED)
    RETURNING 1
  ), visitors AS (
    DELETE FROM end_users WHERE (project_id, id) IN (
      SELECT e.project_id, e.id FROM end_users e
      WHERE e.issuer = '~anonymous' AND e.seen_at < now() - interval '30 days'
        AND NOT EXISTS (SELECT FROM credentials c WHERE (c.project_id, c.end_user_id) = (e.project_id, e.id))
        AND NOT EXISTS (SELECT FROM threads t WHERE t.project_id = e.project_id AND t.end_user_id = e.id)
        AND NOT EXISTS (SELECT FROM files f WHERE f.project_id = e.project_id AND f.end_user_id = e.id)
        AND NOT EXISTS (SELECT FROM emails m WHERE m.project_id = e.project_id AND m.end_user_id = e.id)
      LIMIT p_limit FOR UPDATE OF e SKIP LOCKED)
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM tokens) + (SELECT count(*) FROM held) + (SELECT count(*) FROM visitors)
$$"""

BY_APP = {
    "find_exchange(bytea, uuid)": FIND_EXCHANGE,
    (
        "issue_end_user_token(bytea, uuid, text, text, interval, text[], timestamptz, interval, bytea, uuid, uuid)"
    ): ISSUE,
    "name_end_user(uuid, uuid, uuid, text, uuid)": NAME,
    "is_known_origin(text)": KNOWN_ORIGIN,
    "add_key(uuid, text, uuid, text, text, bytea, text[], text[], boolean, timestamptz)": ADD_KEY,
    "end_key(uuid, uuid)": END_KEY,
}


def upgrade() -> None:
    widen_tables()
    create_tables()
    op.execute(ACTING_END_USER.format(secured=SECURED, worked_on=WORKED_ON, answer=NOW))
    for function in NOT_OF_END_USERS:
        end_with(function, "NOT c.read_only)", f"NOT c.read_only AND {ASIDE})")
    for table, command, condition in CLOSED:
        replace_policy(table, command, f"({condition}) AND {ASIDE}")
    theirs = f"({ASIDE} OR id = (SELECT acting_end_user()))"
    replace_policy("end_users", "SELECT", f"project_id = (SELECT readable_project()) AND {theirs}")
    for command in ("INSERT", "UPDATE", "DELETE"):
        replace_policy("end_users", command, f"project_id = (SELECT writable_project()) AND {ASIDE}")
    op.execute("DROP FUNCTION authenticate(bytea)")
    op.execute(AUTHENTICATE)
    rls.allow("authenticate(bytea)")
    op.execute(REVOKE_CHILDREN)
    op.execute("REVOKE ALL ON FUNCTION revoke_children() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER credentials_with_children AFTER UPDATE OF revoked_at ON credentials FOR EACH ROW"
        " WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL AND NEW.parent_id IS NULL)"
        " EXECUTE FUNCTION revoke_children()"
    )
    op.execute(EXCHANGING_KEY)
    op.execute("REVOKE ALL ON FUNCTION exchanging_key(bytea, uuid) FROM PUBLIC")
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    op.execute(CLEAN)
    rls.allow("clean_end_users(integer)", ops=True)
    count_sealed()


def widen_tables() -> None:
    op.add_column("end_users", sa.Column("issuer", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("end_users", moment("seen_at", default="now()"))
    op.drop_constraint("end_users_project_id_external_id_key", "end_users")
    op.create_unique_constraint(
        op.f("end_users_project_id_issuer_external_id_key"), "end_users", ["project_id", "issuer", "external_id"]
    )
    op.create_index(
        "end_users_visitors_idx", "end_users", ["seen_at"], postgresql_where=sa.text("issuer = '~anonymous'")
    )
    for name, default in (("anonymous_sessions", "true"), ("user_keys_from_browsers", "false")):
        op.add_column("projects", sa.Column(name, sa.Boolean(), server_default=sa.text(default), nullable=False))
    op.add_column("credentials", sa.Column("origins", sa.ARRAY(sa.Text()), nullable=True))
    op.add_column("credentials", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("credentials_parent_id_fkey"), "credentials", "credentials", ["parent_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(
        "credentials_one_of_end_user",
        "credentials",
        ["parent_id", "end_user_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL AND parent_id IS NOT NULL"),
    )
    op.create_index(op.f("credentials_parent_id_idx"), "credentials", ["parent_id"])
    op.create_index(op.f("credentials_project_id_end_user_id_idx"), "credentials", ["project_id", "end_user_id"])
    op.create_index("credentials_origins_idx", "credentials", ["origins"], postgresql_using="gin")
    check("credentials_kind_known", f"kind IN ({KINDS})")
    check("credentials_token_of_others", "(kind IN ('oauth', 'end_user')) = (token_hash IS NULL)")
    op.create_check_constraint(
        op.f("credentials_origins_of_publishable"), "credentials", "(kind = 'publishable') = (origins IS NOT NULL)"
    )
    op.create_check_constraint(
        op.f("credentials_publishable_of_project"), "credentials", "kind <> 'publishable' OR project_id IS NOT NULL"
    )
    op.create_check_constraint(
        op.f("credentials_parent_of_end_user"),
        "credentials",
        "(kind = 'end_user') = (parent_id IS NOT NULL) AND (kind <> 'end_user' OR end_user_id IS NOT NULL)",
    )
    rls.grant("SELECT (origins, parent_id)", "credentials")


def create_tables() -> None:
    op.create_table(
        "end_user_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        moment("created_at", default="now()"),
        moment("expires_at"),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.id"], name=op.f("end_user_tokens_credential_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("end_user_tokens_pkey")),
    )
    op.create_index(op.f("end_user_tokens_credential_id_idx"), "end_user_tokens", ["credential_id"])
    op.create_index(op.f("end_user_tokens_expires_at_idx"), "end_user_tokens", ["expires_at"])
    rls.protect("end_user_tokens", select="false", insert="false", update="false", delete="false")
    op.create_table(
        "token_sources",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("audience", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        moment("created_at", default="now()"),
        sa.CheckConstraint(
            "kind IN ('issuer', 'hs256', 'public_key', 'userinfo', 'none')", name=op.f("token_sources_kind_known")
        ),
        sa.CheckConstraint(
            "kind <> 'issuer' OR (issuer IS NOT NULL AND audience IS NOT NULL)", name=op.f("token_sources_issuer_whole")
        ),
        sa.CheckConstraint("(kind = 'hs256') = (sealed IS NOT NULL)", name=op.f("token_sources_secret_of_hs256")),
        sa.CheckConstraint(
            "(kind = 'public_key') = (public_key IS NOT NULL)", name=op.f("token_sources_key_of_public_key")
        ),
        sa.CheckConstraint("kind <> 'userinfo' OR url IS NOT NULL", name=op.f("token_sources_url_of_userinfo")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("token_sources_project_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("token_sources_pkey")),
        sa.UniqueConstraint(
            "project_id",
            "kind",
            "issuer",
            "audience",
            "url",
            "public_key",
            name=op.f("token_sources_project_id_kind_issuer_audience_url_public_key_key"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    administered = "project_id = (SELECT administered_project())"
    rls.protect(
        "token_sources",
        select=f"project_id = (SELECT readable_project()) AND {ASIDE}",
        insert=administered,
        update=administered,
        delete=administered,
    )
    rls.grant("SELECT, INSERT, DELETE", "token_sources")


def downgrade() -> None:
    uncount_sealed()
    for signature in (*BY_APP, "clean_end_users(integer)", "exchanging_key(bytea, uuid)"):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TRIGGER credentials_with_children ON credentials")
    op.execute("DROP FUNCTION revoke_children()")
    op.execute("DROP FUNCTION authenticate(bytea)")
    op.execute(AUTHENTICATE_BEFORE)
    rls.allow("authenticate(bytea)")
    for command, project in (
        ("SELECT", "readable"),
        ("INSERT", "writable"),
        ("UPDATE", "writable"),
        ("DELETE", "writable"),
    ):
        replace_policy("end_users", command, f"project_id = (SELECT {project}_project())")
    for table, command, condition in CLOSED:
        replace_policy(table, command, condition)
    for function in NOT_OF_END_USERS:
        end_with(function, f"NOT c.read_only AND {ASIDE})", "NOT c.read_only)")
    op.execute(ACTING_END_USER.format(secured=SECURED, worked_on=WORKED_ON, answer=BEFORE))
    op.drop_table("token_sources")
    op.drop_table("end_user_tokens")
    op.execute("DELETE FROM credentials WHERE kind IN ('publishable', 'end_user')")
    for name in ("parent_of_end_user", "publishable_of_project", "origins_of_publishable"):
        op.drop_constraint(op.f(f"credentials_{name}"), "credentials")
    check("credentials_token_of_others", "(kind = 'oauth') = (token_hash IS NULL)")
    check("credentials_kind_known", f"kind IN ({KINDS_BEFORE})")
    op.drop_index(op.f("credentials_project_id_end_user_id_idx"), "credentials")
    op.drop_column("credentials", "parent_id")
    op.drop_column("credentials", "origins")
    op.drop_column("projects", "user_keys_from_browsers")
    op.drop_column("projects", "anonymous_sessions")
    op.drop_constraint(op.f("end_users_project_id_issuer_external_id_key"), "end_users")
    # Of those who have the same name with several issuers the first stays.
    op.execute(
        "DELETE FROM end_users e USING end_users f WHERE f.project_id = e.project_id"
        " AND f.external_id = e.external_id AND f.id < e.id"
    )
    op.create_unique_constraint("end_users_project_id_external_id_key", "end_users", ["project_id", "external_id"])
    op.drop_column("end_users", "seen_at")
    op.drop_column("end_users", "issuer")


def moment(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        postgresql.TIMESTAMP(timezone=True),
        server_default=None if default is None else sa.text(default),
        nullable=False,
    )


def check(name: str, condition: str) -> None:
    """Put ``condition`` in the place of the check of that name."""
    op.drop_constraint(op.f(name), "credentials")
    op.create_check_constraint(op.f(name), "credentials", condition)


def replace_policy(table: str, command: str, condition: str) -> None:
    given = f"WITH CHECK ({condition})" if command == "INSERT" else f"USING ({condition})"
    if command == "UPDATE":
        given += f" WITH CHECK ({condition})"
    op.execute(f"ALTER POLICY app_{command.lower()} ON {table} {given}")


def end_with(function: str, before: str, after: str) -> None:
    """Change the last condition of a function as it stands, whatever else migrations made of it."""
    asked = sa.text("SELECT pg_get_functiondef(CAST(:function AS regprocedure))")
    definition: str = op.get_bind().scalar(asked, {"function": function})
    found, end = definition.rsplit(before, 1)
    op.get_bind().exec_driver_sql(found + after + end)


SEALED = "UNION ALL SELECT 'token_sources.sealed', encode(substr(t.sealed, 2, 4), 'hex'), count(*)"
SEALED = f"  {SEALED} FROM token_sources t\n    WHERE t.sealed IS NOT NULL GROUP BY 2\n"


def count_sealed() -> None:
    end_with("sealed_under()", "$function$", f"\n{SEALED}$function$")


def uncount_sealed() -> None:
    end_with("sealed_under()", SEALED, "")
