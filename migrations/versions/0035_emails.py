"""emails: what projects send and to whom, what became of it, and what webhooks and readers change about it"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import rls

revision = "0035"
down_revision = "0020"
branch_labels = None
depends_on = None

SECURED = "SECURITY DEFINER SET search_path = pg_catalog, public"
OUTCOMES = "'queued', 'sending', 'sent', 'delivered', 'bounced', 'complained', 'kept', 'failed', 'unconfirmed'"
EVENTS = (
    "'scheduled', 'queued', 'deferred', 'sent', 'kept', 'failed', 'unconfirmed', 'cancelled', 'delivered', 'delayed',"
    " 'bounced', 'complained', 'opened', 'clicked', 'suppressed', 'unsubscribed'"
)
HOUSE_MAILS = "'welcome', 'first_message', 'magic_link', 'invitation', 'message_limit'"
BEFORE = (
    "'{projects:read,projects:write,runs:read,runs:write,storage:read,storage:write,registry:read,registry:write}'"
    "::text[]"
)
SCOPES = "'{email:read,email:write}'::text[]"

# The address in "Ada <ada@example.org>", in small letters.
ADDRESS_OF = """
CREATE FUNCTION address_of(p_mailbox text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT lower(coalesce(substring(p_mailbox FROM '<([^<>]*)>$'), p_mailbox))
$$"""

# What an event makes of a mail's status: late and repeated news never undo what is known already.
STATUS_AFTER = """
CREATE FUNCTION email_status_after(p_status text, p_event text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN p_event = 'complained' THEN 'complained'
    WHEN p_event = 'bounced' AND p_status <> 'complained' THEN 'bounced'
    WHEN p_event IN ('delivered', 'failed') AND p_status IN ('queued', 'sending', 'unconfirmed', 'sent') THEN p_event
    WHEN p_event = 'sent' AND p_status IN ('queued', 'sending', 'unconfirmed') THEN 'sent'
    ELSE p_status
  END
$$"""

# Ops. What a project's own endpoint checks signatures with; NULL: there is none.
WEBHOOK_SECRET = f"""
CREATE FUNCTION email_webhook_secret(p_project uuid) RETURNS bytea LANGUAGE sql STABLE {SECURED} AS $$
  SELECT a.webhook_secret FROM email_accounts a WHERE a.project_id = p_project
$$"""

# Ops. Takes one webhook in, in one transaction, once, whatever comes again: the mail's history and status, and whom may
# not be written to any more. p_project: whose endpoint it came to; NULL for the house's own, which speaks for mail that
# went by the house's account alone. p_tagged, p_email: of which project and mail the mail itself said it was, the nil
# UUID for one of the house. Answers 'repeated', 'unknown' or 'taken'.
TAKE_EMAIL_EVENT = f"""
CREATE FUNCTION take_email_event(
  p_source text, p_message text, p_project uuid, p_tagged uuid, p_email uuid, p_provider_id text, p_event uuid,
  p_kind text, p_suppress boolean, p_detail text, p_recipients text[], p_at timestamptz
) RETURNS text LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  mail emails%ROWTYPE;
  theirs text[];
BEGIN
  INSERT INTO received_webhooks (source, message_id) VALUES (p_source, p_message) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN 'repeated';
  END IF;
  IF p_project IS NULL AND p_tagged = '00000000-0000-0000-0000-000000000000' THEN
    RETURN take_house_event(p_email, p_provider_id, p_kind, p_suppress, p_detail);
  ELSIF p_email IS NOT NULL THEN
    SELECT * INTO mail FROM emails e WHERE e.project_id = coalesce(p_project, p_tagged) AND e.id = p_email FOR UPDATE;
  ELSE
    SELECT * INTO mail FROM emails e
      WHERE e.provider_id = p_provider_id AND e.project_id = coalesce(p_project, e.project_id) LIMIT 1 FOR UPDATE;
  END IF;
  IF NOT FOUND OR p_project IS NULL AND NOT starts_with(coalesce(mail.route, ''), 'house-') THEN
    RETURN 'unknown';
  END IF;
  SELECT coalesce(array_agg(DISTINCT address_of(one)), '{{}}') INTO theirs
    FROM unnest(mail.recipients || mail.cc || mail.bcc) one WHERE address_of(one) = ANY (p_recipients);
  IF (SELECT count(*) < 200 AND (p_kind <> 'sent' OR bool_and(v.kind <> 'sent')) FROM email_events v
      WHERE v.project_id = mail.project_id AND v.email_id = mail.id) THEN
    INSERT INTO email_events (project_id, id, email_id, end_user_id, kind, detail, recipients, at)
      VALUES (mail.project_id, p_event, mail.id, mail.end_user_id, p_kind, p_detail, theirs, p_at);
  END IF;
  UPDATE emails e SET status = email_status_after(e.status, p_kind), updated_at = now(),
      provider_id = coalesce(e.provider_id, p_provider_id),
      sent_at = CASE WHEN p_kind IN ('failed', 'suppressed', 'delayed') THEN e.sent_at
        ELSE coalesce(e.sent_at, p_at) END,
      error = CASE WHEN p_kind IN ('bounced', 'complained', 'failed') THEN coalesce(p_detail, e.error) ELSE e.error END
    WHERE e.project_id = mail.project_id AND e.id = mail.id;
  IF p_suppress THEN
    INSERT INTO suppressions (project_id, address, reason, email_id)
      SELECT mail.project_id, one, p_kind, mail.id FROM unnest(theirs) one
      ON CONFLICT (project_id, address) DO UPDATE SET reason = excluded.reason, email_id = excluded.email_id
        WHERE excluded.reason = 'complained';
  END IF;
  RETURN 'taken';
END $$"""

# What take_email_event does for a mail of the house, which has one recipient.
TAKE_HOUSE_EVENT = """
CREATE FUNCTION take_house_event(
  p_mail uuid, p_provider_id text, p_kind text, p_suppress boolean, p_detail text
) RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, public AS $$
DECLARE
  whose text;
BEGIN
  UPDATE house_mails m SET status = email_status_after(m.status, p_kind), updated_at = now(),
      provider_id = coalesce(m.provider_id, p_provider_id),
      error = CASE WHEN p_kind IN ('bounced', 'complained', 'failed') THEN coalesce(p_detail, m.error) ELSE m.error END
    WHERE m.id = p_mail AND starts_with(coalesce(m.route, ''), 'house-') RETURNING m.address INTO whose;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  IF p_suppress THEN
    INSERT INTO house_suppressions (address, reason) VALUES (whose, p_kind)
      ON CONFLICT (address) DO UPDATE SET reason = excluded.reason;
  END IF;
  RETURN 'taken';
END $$"""

# App, and nobody has to be signed in: a link to sign in with goes to people we do not know yet. What is sent is one of
# our own texts; this role cannot read it again. False: there is such a mail already.
QUEUE_HOUSE_MAIL = f"""
CREATE FUNCTION queue_house_mail(
  p_id uuid, p_kind text, p_user uuid, p_address text, p_name text, p_variables jsonb, p_secret bytea, p_once text,
  p_expires timestamptz
) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  INSERT INTO house_mails (id, kind, user_id, address, name, variables, secret, once, expires_at)
    VALUES (p_id, p_kind, p_user, lower(p_address), p_name, p_variables, p_secret, p_once, p_expires)
    ON CONFLICT (kind, once) DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM ops.add_job(NULL, NULL, NULL, NULL, 'deliver_house_mail', jsonb_build_object('mail_id', p_id), NULL, NULL,
    NULL);
  RETURN true;
END $$"""

# App. What an account gets when it is new, whoever makes it: a welcome, once, and a place in the audience. False: it
# had its welcome, or there is no such account.
WELCOME_USER = f"""
CREATE FUNCTION welcome_user(p_user uuid, p_mail uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  account users%ROWTYPE;
BEGIN
  SELECT * INTO account FROM users u WHERE u.id = p_user;
  IF NOT FOUND OR NOT queue_house_mail(p_mail, 'welcome', p_user, account.email, account.name, '{{}}', NULL,
      p_user::text, NULL) THEN
    RETURN false;
  END IF;
  PERFORM ops.add_job(NULL, NULL, NULL, NULL, 'join_audience', jsonb_build_object('user_id', p_user), NULL, NULL, NULL);
  RETURN true;
END $$"""

# The first message that an account's agents get is worth a word, once. By a trigger, so that no way of starting a run
# can forget it; an account without an address of its own (owner@localhost) gets none.
TELL_FIRST_MESSAGE = f"""
CREATE FUNCTION tell_first_message() RETURNS trigger LANGUAGE plpgsql {SECURED} AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM house_mails m WHERE m.kind = 'first_message' AND m.once = NEW.user_id::text) THEN
    PERFORM queue_house_mail(NEW.id, 'first_message', u.id, u.email, u.name,
        jsonb_build_object('project', p.name, 'project_id', p.id), NULL, u.id::text, NULL)
      FROM users u, projects p WHERE u.id = NEW.user_id AND p.id = NEW.project_id AND u.email LIKE '%@%.%';
  END IF;
  RETURN NULL;
END $$"""

# Ops. Whom join_audience is about.
AUDIENCE_CANDIDATE = f"""
CREATE FUNCTION audience_candidate(p_user uuid, OUT address text, OUT name text)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT u.email, u.name FROM users u WHERE u.id = p_user AND u.disabled_at IS NULL AND u.email LIKE '%@%.%'
    AND NOT EXISTS (SELECT FROM house_suppressions s WHERE s.address = u.email)
$$"""

# Ops. One more attempt at a mail of the house, if it still waits for one; suppressed: why it must not be sent.
BEGIN_HOUSE_MAIL = f"""
CREATE FUNCTION begin_house_mail(p_id uuid, OUT mail house_mails, OUT suppressed text)
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  UPDATE house_mails m SET attempts = m.attempts + 1, updated_at = now()
    WHERE m.id = p_id AND m.status IN ('queued', 'sending') RETURNING m.* INTO mail;
  SELECT s.reason INTO suppressed FROM house_suppressions s
    WHERE s.address = mail.address AND (s.reason <> 'unsubscribed' OR mail.kind NOT IN ('magic_link', 'invitation'));
END $$"""

# Ops. Says that a mail is about to leave by p_route. False: another attempt has begun since.
HAND_OVER_HOUSE_MAIL = f"""
CREATE FUNCTION hand_over_house_mail(p_id uuid, p_attempt integer, p_route text) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  UPDATE house_mails m SET status = 'sending', updated_at = now(), route = p_route,
      handed_over_at = CASE WHEN m.route = p_route THEN m.handed_over_at ELSE now() END
    WHERE m.id = p_id AND m.attempts = p_attempt AND m.status IN ('queued', 'sending');
  RETURN FOUND;
END $$"""

# Ops. What came of an attempt; 'queued' comes again at p_again. What opens something is forgotten with the last one,
# unless the mail is kept to be read.
SETTLE_HOUSE_MAIL = f"""
CREATE FUNCTION settle_house_mail(
  p_id uuid, p_attempt integer, p_status text, p_detail text, p_provider_id text, p_refused boolean, p_again timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  UPDATE house_mails m SET updated_at = now(), error = p_detail, provider_id = coalesce(p_provider_id, m.provider_id),
      status = CASE WHEN p_status = 'sent' THEN email_status_after(m.status, 'sent') ELSE p_status END,
      route = CASE WHEN p_refused THEN NULL ELSE m.route END,
      secret = CASE WHEN p_status IN ('queued', 'kept') THEN m.secret END
    WHERE m.id = p_id AND (p_status = 'sent' OR m.attempts = p_attempt AND m.status IN ('queued', 'sending'));
  IF FOUND AND p_status = 'queued' THEN
    PERFORM ops.add_job(NULL, NULL, NULL, NULL, 'deliver_house_mail', jsonb_build_object('mail_id', p_id), NULL,
      p_again, NULL);
  END IF;
END $$"""

# Ops. For a reader who holds a signed link, and no account: which project it is about.
AUDIENCE_OF = f"""
CREATE FUNCTION audience_of(p_project uuid, p_contact uuid, OUT project text, OUT subscribed boolean)
LANGUAGE sql STABLE {SECURED} AS $$
  SELECT p.name, c.subscribed FROM contacts c JOIN projects p ON p.id = c.project_id
  WHERE c.project_id = p_project AND c.id = p_contact
$$"""

# Ops. For the same reader. False: there is no such contact any more.
LEAVE_AUDIENCE = f"""
CREATE FUNCTION leave_audience(p_project uuid, p_contact uuid, p_email uuid, p_event uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE {SECURED} AS $$
DECLARE
  known boolean;
BEGIN
  SELECT c.subscribed INTO known FROM contacts c WHERE c.project_id = p_project AND c.id = p_contact FOR UPDATE;
  IF known THEN
    UPDATE contacts c SET subscribed = false, unsubscribed_at = now(), updated_at = now()
      WHERE c.project_id = p_project AND c.id = p_contact;
    INSERT INTO email_events (project_id, id, email_id, end_user_id, kind)
      SELECT e.project_id, p_event, e.id, e.end_user_id, 'unsubscribed' FROM emails e
      WHERE e.project_id = p_project AND e.id = p_email AND e.contact_id = p_contact;
  END IF;
  RETURN known IS NOT NULL;
END $$"""

# Ops. The same for mail of the house, by the mail that the link is in. False: there is no such mail any more.
LEAVE_HOUSE_AUDIENCE = f"""
CREATE FUNCTION leave_house_audience(p_mail uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE {SECURED} AS $$
BEGIN
  INSERT INTO house_suppressions (address, reason)
    SELECT m.address, 'unsubscribed' FROM house_mails m WHERE m.id = p_mail
    ON CONFLICT (address) DO NOTHING;
  RETURN EXISTS (SELECT FROM house_mails m WHERE m.id = p_mail);
END $$"""

# Ops. At most p_limit of each: ids of webhooks, kept for longer than anybody sends one again; what opened something and
# opens nothing any more; mail of the house of which there may be another one.
CLEAN_MAIL = f"""
CREATE FUNCTION clean_mail(p_limit integer) RETURNS bigint LANGUAGE sql VOLATILE {SECURED} AS $$
  WITH webhooks AS (
    DELETE FROM received_webhooks WHERE (source, message_id) IN (
      SELECT source, message_id FROM received_webhooks WHERE received_at < now() - interval '14 days'
      LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), secrets AS (
    UPDATE house_mails SET secret = NULL WHERE id IN (
      SELECT id FROM house_mails WHERE secret IS NOT NULL AND expires_at < now() LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ), mails AS (
    DELETE FROM house_mails WHERE id IN (
      SELECT id FROM house_mails WHERE once IS NULL AND secret IS NULL AND created_at < now() - interval '30 days'
      LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM webhooks) + (SELECT count(*) FROM secrets) + (SELECT count(*) FROM mails)
$$"""

TABLES = (
    *("house_suppressions", "house_mails", "received_webhooks", "email_accounts", "email_templates", "suppressions"),
    *("email_events", "emails", "contacts"),
)
INNER = {
    "address_of(text)": ADDRESS_OF,
    "email_status_after(text, text)": STATUS_AFTER,
    "take_house_event(uuid, text, text, boolean, text)": TAKE_HOUSE_EVENT,
}
BY_APP = {
    "queue_house_mail(uuid, text, uuid, text, text, jsonb, bytea, text, timestamptz)": QUEUE_HOUSE_MAIL,
    "welcome_user(uuid, uuid)": WELCOME_USER,
}
BY_OPS = {
    "email_webhook_secret(uuid)": WEBHOOK_SECRET,
    "take_email_event(text, text, uuid, uuid, uuid, text, uuid, text, boolean, text, text[], timestamptz)": (
        TAKE_EMAIL_EVENT
    ),
    "audience_candidate(uuid)": AUDIENCE_CANDIDATE,
    "begin_house_mail(uuid)": BEGIN_HOUSE_MAIL,
    "hand_over_house_mail(uuid, integer, text)": HAND_OVER_HOUSE_MAIL,
    "settle_house_mail(uuid, integer, text, text, text, boolean, timestamptz)": SETTLE_HOUSE_MAIL,
    "audience_of(uuid, uuid)": AUDIENCE_OF,
    "leave_audience(uuid, uuid, uuid, uuid)": LEAVE_AUDIENCE,
    "leave_house_audience(uuid)": LEAVE_HOUSE_AUDIENCE,
    "clean_mail(integer)": CLEAN_MAIL,
}


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), nullable=False)


def _project() -> sa.Column[object]:
    return sa.Column("project_id", sa.Uuid(), nullable=False)


def _text(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), server_default=None if default is None else sa.text(default), nullable=False)


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False)


def _json(name: str, default: str = "{}") -> sa.Column[object]:
    return sa.Column(
        name,
        postgresql.JSONB(astext_type=sa.Text()),
        server_default=sa.text(f"'{default}'::jsonb"),
        nullable=False,
    )


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), nullable=True)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False)


def _maybe(name: str, kind: type[sa.types.TypeEngine[Any]]) -> sa.Column[object]:
    return sa.Column(name, kind(), nullable=True)


def _of_project(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"{table}_project_id_fkey")
    return sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=name, ondelete="CASCADE")


def _parent(table: str, parent: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["project_id", column],
        [f"{parent}.project_id", f"{parent}.id"],
        name=op.f(f"{table}_project_id_{column}_fkey"),
        ondelete="CASCADE",
    )


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"{table}_pkey"))


def _one_of(table: str, column: str, values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({values})", name=op.f(f"{table}_{column}_known"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"{table}_{'_'.join(columns)}_key"))


def make_tables() -> None:
    op.create_table(
        "contacts",
        *(_project(), _id(), _text("address"), _text("name", "''"), _json("fields")),
        sa.Column("subscribed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        *(_moment("unsubscribed_at"), _now("created_at"), _now("updated_at")),
        *(_of_project("contacts"), _key("contacts", "project_id", "id"), _unique("contacts", "project_id", "address")),
    )
    op.create_table(
        "emails",
        *(_project(), _id(), _maybe("end_user_id", sa.Uuid), _maybe("contact_id", sa.Uuid)),
        *(_text("status", "'queued'"), _text("sender")),
        *(_texts("recipients"), _texts("cc"), _texts("bcc"), _texts("reply_to"), _texts("withheld")),
        *(_text("subject"), _text("text"), _maybe("html", sa.Text), _json("attachments", "[]"), _json("tags")),
        _moment("scheduled_at"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        *(
            _moment("handed_over_at"),
            _maybe("route", sa.Text),
            _maybe("provider_id", sa.Text),
            _maybe("error", sa.Text),
        ),
        _moment("sent_at"),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        *(_maybe("run_id", sa.Uuid), _now("created_at"), _now("updated_at")),
        _one_of("emails", "status", f"'scheduled', 'cancelled', {OUTCOMES}"),
        _of_project("emails"),
        *(_parent("emails", "end_users", "end_user_id"), _parent("emails", "contacts", "contact_id")),
        _key("emails", "project_id", "id"),
    )
    op.create_index(op.f("emails_project_id_status_id_idx"), "emails", ["project_id", "status", "id"])
    known = sa.text("provider_id IS NOT NULL")
    op.create_index("emails_provider_id_idx", "emails", ["provider_id"], postgresql_where=known)
    op.create_table(
        "email_events",
        *(_project(), _id(), sa.Column("email_id", sa.Uuid(), nullable=False), _maybe("end_user_id", sa.Uuid)),
        *(_text("kind"), _maybe("detail", sa.Text), _texts("recipients"), _now("at")),
        _one_of("email_events", "kind", EVENTS),
        *(_parent("email_events", "emails", "email_id"), _parent("email_events", "end_users", "end_user_id")),
        _key("email_events", "project_id", "id"),
    )
    op.create_index(op.f("email_events_project_id_email_id_id_idx"), "email_events", ["project_id", "email_id", "id"])
    op.create_table(
        "suppressions",
        *(_project(), _text("address"), _text("reason"), _maybe("email_id", sa.Uuid), _now("created_at")),
        _one_of("suppressions", "reason", "'bounced', 'complained'"),
        *(_of_project("suppressions"), _key("suppressions", "project_id", "address")),
    )
    op.create_table(
        "email_templates",
        *(_project(), _id(), _text("name"), _text("subject"), _maybe("text", sa.Text), _maybe("html", sa.Text)),
        *(_now("created_at"), _now("updated_at"), _of_project("email_templates")),
        *(_key("email_templates", "project_id", "id"), _unique("email_templates", "project_id", "name")),
    )
    op.create_table(
        "email_accounts",
        *(_project(), _text("sender"), _texts("domains"), _text("account")),
        sa.Column("api_key", sa.LargeBinary(), nullable=False),
        *(_maybe("webhook_secret", sa.LargeBinary), _now("created_at"), _now("updated_at")),
        *(_of_project("email_accounts"), _key("email_accounts", "project_id")),
    )
    op.create_table(
        "received_webhooks",
        *(_text("source"), _text("message_id"), _now("received_at"), _key("received_webhooks", "source", "message_id")),
    )
    op.create_index(op.f("received_webhooks_received_at_idx"), "received_webhooks", ["received_at"])
    op.create_table(
        "house_mails",
        *(_id(), _text("kind"), _maybe("user_id", sa.Uuid), _maybe("once", sa.Text), _text("address")),
        *(_text("name", "''"), _json("variables"), _maybe("secret", sa.LargeBinary), _text("status", "'queued'")),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        *(
            _moment("handed_over_at"),
            _maybe("route", sa.Text),
            _maybe("provider_id", sa.Text),
            _maybe("error", sa.Text),
        ),
        *(_moment("expires_at"), _now("created_at"), _now("updated_at")),
        _one_of("house_mails", "kind", HOUSE_MAILS),
        _one_of("house_mails", "status", OUTCOMES),
        sa.CheckConstraint("address = lower(address)", name=op.f("house_mails_address_small")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("house_mails_user_id_fkey"), ondelete="CASCADE"),
        *(_key("house_mails", "id"), _unique("house_mails", "kind", "once")),
    )
    op.create_index(op.f("house_mails_user_id_id_idx"), "house_mails", ["user_id", "id"])
    op.create_table(
        "house_suppressions",
        *(_text("address"), _text("reason"), _now("created_at"), _key("house_suppressions", "address")),
        _one_of("house_suppressions", "reason", "'bounced', 'complained', 'unsubscribed'"),
    )


def protect() -> None:
    """What one end user sends is theirs. Contacts, templates and the account are the project's alone: whoever acts for
    an end user sees none of the former, changes none of the second. Suppressions come from webhooks, and a member lifts
    them; an end user may know of one, since a mail to it fails."""
    reads, writes = "project_id = (SELECT readable_project())", "project_id = (SELECT writable_project())"
    nobodys = "(SELECT acting_end_user()) IS NULL"
    rls.protect_tenant("emails", end_user=True)
    rls.protect_tenant("email_events", end_user=True)
    mine, ours = f"{reads} AND {nobodys}", f"{writes} AND {nobodys}"
    rls.protect("contacts", select=mine, insert=ours, update=ours, delete=ours)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "contacts")
    rls.protect("email_templates", select=reads, insert=ours, update=ours, delete=ours)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "email_templates")
    rls.protect("suppressions", select=reads, insert="false", update="false", delete=ours)
    rls.grant("SELECT, DELETE", "suppressions")
    administered = "project_id = (SELECT administered_project())"
    rls.protect("email_accounts", select=reads, insert=administered, update=administered, delete=administered)
    rls.grant("SELECT, INSERT, UPDATE, DELETE", "email_accounts")
    # A person sees what the house wrote to them, and not what opens something: that is theirs who have the mailbox.
    rls.protect(
        "house_mails", select="user_id = (SELECT acting_user())", insert="false", update="false", delete="false"
    )
    rls.grant("SELECT (id, kind, user_id, address, name, variables, status, error, created_at)", "house_mails")
    for table in ("received_webhooks", "house_suppressions"):
        rls.protect(table, select="false", insert="false", update="false", delete="false")


def upgrade() -> None:
    make_tables()
    protect()
    for signature, body in INNER.items():
        op.execute(body)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    for signature, body in BY_OPS.items():
        op.execute(body)
        rls.allow(signature, ops=True)
    for signature, body in BY_APP.items():
        op.execute(body)
        rls.allow(signature)
    op.execute(TELL_FIRST_MESSAGE)
    op.execute("REVOKE ALL ON FUNCTION tell_first_message() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER runs_first_message AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION tell_first_message()"
    )
    # A key that may do everything there was may do everything there is.
    op.execute(
        f"UPDATE credentials SET scopes = scopes || {SCOPES} WHERE scopes @> {BEFORE} AND NOT scopes && {SCOPES}"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE credentials SET scopes = array_remove(array_remove(scopes, 'email:read'), 'email:write')"
        f" WHERE scopes && {SCOPES}"
    )
    op.execute("DROP TRIGGER runs_first_message ON runs")
    for signature in ("tell_first_message()", *BY_APP, *BY_OPS):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute(f"DROP FUNCTION {list(INNER)[-1]}")
    for table in (
        "house_suppressions",
        "house_mails",
        "received_webhooks",
        "email_accounts",
        "email_templates",
        "suppressions",
        "email_events",
        "emails",
    ):
        op.drop_table(table)
    op.drop_table("contacts")
    for signature in list(INNER)[:-1]:
        op.execute(f"DROP FUNCTION {signature}")
