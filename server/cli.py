"""The ``innkeeper`` command: reads arguments, and imports only the command that was asked for."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from db.errors import AppError
from db.job_queue import STATES
from server.argument_types import families, port, positive, server_name
from server.refusal import Refusal
from server.terminal import note, put

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8260


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 (``doctor`` found a fault) or 2 (a refusal, in sentences)."""
    parsed = _parser().parse_args(arguments)
    try:
        command = importlib.import_module(f"server.commands.{parsed.module}")
        return int(command.run(parsed))
    except Refusal as refusal:
        for sentence in refusal.sentences:
            note(f"innkeeper: {sentence}")
        return 2
    except AppError as error:
        note(f"innkeeper: {error.message} {error.hint or ''}".rstrip())
        return 2
    except KeyboardInterrupt:
        return 130


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("innkeeper")
        except PackageNotFoundError:
            found = "(run from a source tree that is not installed)"
        put(f"innkeeper {found}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="innkeeper",
        description="An MCP-first agent server: projects, runs and agents behind one endpoint.",
        epilog="Settings are environment variables: docs/settings.md, or 'innkeeper settings'.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        command.set_defaults(module=name)
        return command

    _add_processes(add)
    _add_keys(add)
    _add_users(add)
    _add_clients(add)
    _add_connections(add)
    _add_sources(add)
    _add_backups(add)
    opening = add("open", "print a link that opens the pages in a browser, once, for ten minutes")
    opening.add_argument(
        "approval", nargs="?", type=UUID, metavar="APPROVAL", help="the approval to open (default: the projects)"
    )
    opening.add_argument("--user", metavar="EMAIL_OR_ID", help="as whom (default: the account of 'up')")
    opening.add_argument("--url", help="address of the server (default: INNKEEPER_PUBLIC_URL, else the running 'up')")
    opening.add_argument("--json", action="store_true", help="print JSON")
    _add_data(opening)
    migrate = add("migrate", "bring the database of DATABASE_OWNER_URL to this version, creating its roles if need be")
    migrate.add_argument("--app-role", default="innkeeper_app", help="default: %(default)s")
    migrate.add_argument("--ops-role", default="innkeeper_ops", help="default: %(default)s")
    doctor = add("doctor", "check settings, database, roles, row-level security and model; exit code 1 on a fault")
    doctor.add_argument("--mcp", metavar="URL", help="check the connection to this MCP endpoint instead, anybody's")
    doctor.add_argument("--token-file", type=Path, metavar="FILE", help="the token for --mcp; it is never printed")
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    doctor.add_argument("--fix", action="store_true", help="give the bucket of files the CORS and lifecycle it lacks")
    _add_data(doctor)
    settings = add("settings", "list every setting")
    settings.add_argument("--markdown", action="store_true", help="print docs/settings.md")
    return parser


_Add = Callable[[str, str], argparse.ArgumentParser]


def _add_processes(add: _Add) -> None:
    up = add("up", "start everything on this machine: PostgreSQL, migrations, a first account and the server")
    serve = add("serve", "serve in production, on a database that is migrated already")
    for command in (up, serve):
        command.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
        command.add_argument(
            "--port", type=port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)"
        )
    _add_data(up)
    up.add_argument("--json", action="store_true", help="print exactly one line of JSON on stdout, when ready")
    up.add_argument("--no-detect", action="store_true", help="do not look for Ollama or LM Studio on this machine")
    add("worker", "work off jobs in the background")
    _add_jobs(add)


def _add_jobs(add: _Add) -> None:
    jobs = add("jobs", "list jobs that are not over, and retry dead ones")
    actions = jobs.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="print the newest jobs; those that ended well are gone")
    listing.add_argument("--state", choices=STATES, help="only these")
    listing.add_argument("--project", type=UUID, metavar="ID", help="only jobs of this project")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="default: %(default)s")
    listing.add_argument("--before", type=int, metavar="ID", help="only older ones: the last id of the page before")
    retry = actions.add_parser("retry", help="let dead jobs begin anew, or one that waits for its next attempt at once")
    retry.add_argument("ids", nargs="*", type=int, metavar="ID", help="the id that 'jobs list' prints")
    for name, action in (("list", listing), ("retry", retry)):
        action.set_defaults(action=name)
        action.add_argument("--kind", metavar="KIND", help="only jobs of this kind")
        action.add_argument("--json", action="store_true", help="print JSON")
        _add_data(action)


def _add_sources(add: _Add) -> None:
    sources = add("sources", "list what registries are synced from, and make the secrets of their webhooks")
    actions = sources.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="print the sources")
    listing.add_argument("--project", type=UUID, metavar="ID", help="only those of this project")
    secret = actions.add_parser("secret", help="make the secret of a source's webhooks and print it once")
    secret.add_argument("id", type=UUID, help="the id that 'sources list' prints")
    secret.add_argument("--enter", action="store_true", help="take a secret of one's own from stdin instead")
    for name, action in (("list", listing), ("secret", secret)):
        action.set_defaults(action=name)
        action.add_argument("--json", action="store_true", help="print JSON")
        _add_data(action)


def _add_keys(add: _Add) -> None:
    keys = add("keys", "create, list and revoke secret keys; rotate the root secret")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it once")
    create.add_argument("name", help="what the key is for")
    create.add_argument("--project", metavar="ID", help="bind it to one project (default: all of the account's)")
    create.add_argument("--scope", action="append", metavar="SCOPE", help="repeatable (default: every scope)")
    create.add_argument("--read-only", action="store_true", help="a key that never changes anything")
    create.add_argument("--feed", action="store_true", help="a key that only installs from --project's registry")
    create.add_argument("--publishable", action="store_true", help="a key for browsers: acts for --project's end users")
    create.add_argument("--origin", action="append", metavar="URL", help="of pages that may use it (repeatable)")
    create.add_argument("--days", type=positive, metavar="N", help="expire after N days (default: never)")
    listing = actions.add_parser("list", help="print the account's keys, without their secret part")
    revoke = actions.add_parser("revoke", help="make a key useless, on every process, at once")
    revoke.add_argument("id", help="the id that 'keys list' prints")
    for name, action in (("create", create), ("list", listing), ("revoke", revoke)):
        action.set_defaults(action=name)
        action.add_argument("--user", metavar="EMAIL_OR_ID", help="whose key (default: the account of 'up')")
        action.add_argument("--json", action="store_true", help="print JSON")
        _add_data(action)

    rotate = actions.add_parser("rotate", help="replace the root secret, and bring everything under the new one")
    rotate.add_argument("--forget", action="store_true", help="accept nothing more that was made with the one before")
    rotate.add_argument("--force", action="store_true", help="do not wait for processes that do not know the new one")
    rotate.add_argument("--json", action="store_true", help="print JSON")
    rotate.set_defaults(action="rotate")
    _add_data(rotate)


def _add_users(add: _Add) -> None:
    users = add("users", "list, add, disable and delete accounts")
    actions = users.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="print the accounts")
    adding = actions.add_parser("add", help="make an account, which may then sign in by mail")
    adding.add_argument("user", metavar="EMAIL", help="such as 'Ada <ada@example.org>'")
    disable = actions.add_parser("disable", help="end all of an account's sessions, grants, tokens and keys, at once")
    enable = actions.add_parser("enable", help="let a disabled account sign in again")
    delete = actions.add_parser("delete", help="end all of it, and delete the account")
    delete.add_argument("--with-projects", action="store_true", help="and the projects in which nobody else is")
    admin = add("admin", "name the administrators of this instance")
    rights = admin.add_subparsers(title="actions", metavar="ACTION", required=True)
    grant = rights.add_parser("grant", help="make an account an administrator")
    revoke = rights.add_parser("revoke", help="make it none any more")
    for action in (disable, enable, delete, grant, revoke):
        action.add_argument("user", metavar="EMAIL_OR_ID", help="whose account")
    named = {"list": listing, "add": adding, "disable": disable, "enable": enable, "delete": delete}
    for name, action in (named | {"grant": grant, "revoke": revoke}).items():
        action.set_defaults(action=name, module="users")
        action.add_argument("--json", action="store_true", help="print JSON")
        _add_data(action)


def _add_clients(add: _Add) -> None:
    clients = add("clients", "create, list and delete OAuth clients and service accounts")
    actions = clients.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a client and print its id and secret once")
    create.add_argument("name", help="what people are shown")
    create.add_argument("--redirect", action="append", default=[], metavar="URI", help="where answers go; repeatable")
    create.add_argument("--public", action="store_true", help="without a secret, for programs that can keep none")
    create.add_argument("--introspect", action="store_true", help="may ask what tokens are worth (RFC 7662)")
    create.add_argument("--service", metavar="PROJECT", help="a service account of this project (client_credentials)")
    create.add_argument("--scope", action="append", metavar="SCOPE", help="of a service; repeatable (default: all)")
    listing = actions.add_parser("list", help="print the clients made here, without their secrets")
    delete = actions.add_parser("delete", help="end a client and all its grants, at once")
    delete.add_argument("id", help="the client id that 'clients list' prints")
    for name, action in (("create", create), ("list", listing), ("delete", delete)):
        action.set_defaults(action=name)
        action.add_argument("--json", action="store_true", help="print JSON")
        _add_data(action)
    login = add("login", "sign in to an Innkeeper from this terminal, and keep its tokens in a file of yours")
    login.add_argument("url", help="its address, such as https://innkeeper.example.com")
    login.add_argument("--scope", action="append", metavar="SCOPE", help="repeatable (default: all there are)")
    login.add_argument("--file", type=Path, metavar="FILE", help="where (default: ~/.config/innkeeper/tokens.json)")


def _add_connections(add: _Add) -> None:
    connect = add("connect", "put an Innkeeper into the MCP clients of this computer, signed in and proven")
    connect.add_argument(
        "client",
        nargs="?",
        metavar="CLIENT",
        help="claude-code, cursor, vscode, vscode-insiders or codex; for another the configuration is printed "
        "(default: those that are found here)",
    )
    connect.add_argument("--url", help="its address (default: INNKEEPER_PUBLIC_URL, else the running 'up')")
    connect.add_argument("--name", type=server_name, default="innkeeper", help="of the entry (default: %(default)s)")
    connect.add_argument("--project", type=UUID, metavar="ID", help="narrow the connection to one project")
    connect.add_argument("--tools", type=families, metavar="A,B", help="narrow it to these families of tools")
    connect.add_argument("--read-only", action="store_true", help="narrow it to what changes nothing")
    connect.add_argument(
        "--transport",
        choices=("http", "stdio"),
        help="http: an entry with the URL; stdio: one that starts 'innkeeper stdio' "
        "(default: the one by which the client is signed in, http where it takes its token from a program)",
    )
    connect.add_argument("--yes", action="store_true", help="do not ask before the clients that were found")
    way = connect.add_mutually_exclusive_group()
    way.add_argument("--remove", action="store_true", help="take out what was put in, and sign out")
    way.add_argument("--print", action="store_true", help="print the configuration, and touch nothing")
    _add_data(connect)
    token = add("token", "print the access token of a sign-in, refreshed if need be")
    token.add_argument("url", help="the address given to 'login' or 'connect'")
    token.add_argument("--headers", action="store_true", help="as a JSON object of HTTP headers")
    stdio = add("stdio", "speak MCP on standard input and output, for clients that only start programs")
    stdio.add_argument(
        "url", help="the endpoint, such as https://innkeeper.example.com/mcp, at which you are signed in"
    )
    stdio.add_argument("--token-file", type=Path, metavar="FILE", help="a key to use in the place of a sign-in")
    for command in (token, stdio):
        command.add_argument(
            "--file", type=Path, metavar="FILE", help="where (default: ~/.config/innkeeper/tokens.json)"
        )


def _add_backups(add: _Add) -> None:
    backup = add("backup", "write database, keys and files into one file")
    backup.add_argument("file", type=Path, metavar="FILE")
    restore = add("restore", "put a backup back into an empty data directory or database")
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--force", action="store_true", help="replace what is there")
    for command in (backup, restore):
        _add_data(command)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data directory (default: INNKEEPER_DATA, else ~/.local/share/innkeeper)",
    )


if __name__ == "__main__":
    raise SystemExit(main())
