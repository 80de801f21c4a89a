"""Each security-relevant act is in the log: who, what, and from where. The table of them is ``acts.py``, and a further
kind of act, page, route or command without a row in it fails here."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio
from starlette.routing import Route

from db import audit
from db.embedded.cluster import EmbeddedPostgres
from server import cli
from server.app import create_app
from server.integrations.provider_check import PROVIDERS, ProviderChecks
from tests.fakes.github_server import CLIENT_ID, SECRET, github
from tests.fakes.outside import reaching_loopback
from tests.fakes.raw_server import Asked, Send, answer, raw_server
from tests.fakes.resend_server import resend
from tests.server.command import ROOT
from tests.server.edge_services import served
from tests.server.issuers.house import House, Peer
from tests.server.oauth.houses import house
from tests.server.oauth.people import Inn, Person
from tests.server.site.acts import ROWS
from tests.server.site.acts.world import AGENT, KEY, PROGRAM, SIGN_IN_PAGE, Row, World

pytestmark = [pytest.mark.promise("IDN-30"), pytest.mark.asyncio(loop_scope="module")]
NOBODY: Final = Peer("nobody", "http://127.0.0.1:9")
ELSEWHERE: Final = {
    "backup:made": "tests/server/test_operator_commands.py",
    "backup:restored": "tests/server/test_operator_commands.py",
    "root_secret:rotated": "tests/server/test_rotation.py",
}
"""Acts on a whole house, and the tests that do them and read the log."""
QUIET_ROUTES: Final = {
    "/agui": "runs are rows of their own, with who started them",
    "/agui/{agent}": "as /agui",
    "/runs/{run_id}/cancel": "the run says who started it and that it was cancelled",
    "/threads/{thread}/components/{component_id}/state": "the words of a user, in their own thread",
    "/storage/presign": "files are rows of their own, with who made them",
    "/unsubscribe/{token}": "a reader of mail, who has no account",
    "/webhooks/resend": "signed by the provider of mail; each mail has its history",
    "/webhooks/resend/{project_id:uuid}": "as /webhooks/resend",
    "/webhooks/registry/{source:uuid}": "signed by a source; each sync is a row",
    "/webhooks/storage": "signed by the bucket",
    "/oauth/introspect": "asks, and changes nothing",
    "/v1/threads": "threads, messages and runs are rows of their own, as those of /agui",
    "/v1/threads/{thread_id:thread}": "names a thread; the end of one is in the log as that of the tool delete_thread",
    "/v1/threads/runs": "as /agui",
    "/v1/threads/{thread_id:thread}/runs": "as /agui",
    "/v1/threads/{thread_id:thread}/runs/{run_id}": "as /runs/{run_id}/cancel",
    "/v1/threads/{thread_id:thread}/components/{component_id}/state": "as /threads/{thread}/components",
    "/mcp/calls/{key:path}": "ends a call, which has its own row if it had an effect",
}
"""Routes that change something which is no act of the log, and why."""
QUIET_COMMANDS: Final = {
    *("up", "serve", "worker", "migrate", "doctor", "settings", "jobs list", "jobs retry"),
    *("users list", "keys list", "clients list", "sources list"),
    *("connect", "login", "stdio", "token"),  # of who sits at another computer: their device is let in on a page
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(cluster: EmbeddedPostgres, links: list[str | None]) -> AsyncIterator[World]:
    """A house with GitHub, Resend and a provider of models; ``person`` of it is new in each test."""

    async def accepts(_asked: Asked, send: Send) -> None:
        await send(answer(b'{"data": []}'))

    async with github() as octo, resend() as mail, raw_server(accepts) as provider:
        environ = {
            "INNKEEPER_SIGN_UP": "open",
            "GITHUB_CLIENT_ID": CLIENT_ID,
            "GITHUB_CLIENT_SECRET": SECRET,
            "GITHUB_BASE_URL": octo.url,
            "GITHUB_API_URL": f"{octo.url}/api/v3",
            "RESEND_API_URL": mail.url,
        }
        here = {name: replace(known, url=provider.url(f"/{name}/models")) for name, known in PROVIDERS.items()}
        checks = ProviderChecks(reaching_loopback(), here)
        async with house(cluster, environ, say_link=lambda _address, link: links.append(link)) as inn:
            app = create_app(replace(inn.services, provider_checks=checks))
            async with served(app) as (host, port):
                at = Inn(f"http://{host}:{port}", inn.owner, inn.services, inn.owner_url, app)
                someone = Person(at, None, None, {})  # type: ignore[arg-type]  # each test has its own
                yield World(at, someone, House(at, NOBODY, NOBODY, octo), mail, links)


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row.kind}" for number, row in enumerate(ROWS)])
async def test_the_log_says_who_did_it_and_from_where(world: World, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = world.inn.owner
    monkeypatch.setenv("DATABASE_OWNER_URL", world.inn.owner_url)
    monkeypatch.setenv("INNKEEPER_ROOT_SECRET", "0123456789" * 4)
    async with world.inn.person("One", "Two") as person:
        # Nobody is believed who says that they are somewhere else.
        elsewhere = {"x-forwarded-for": "203.0.113.66", "forwarded": "for=203.0.113.66", "x-real-ip": "203.0.113.66"}
        person.browser.headers.update({"user-agent": AGENT, **elsewhere})
        # Ids of one millisecond are in no order.
        before = await owner.fetchval("SELECT array_agg(id) FROM audit")
        told = await row.act(replace(world, person=person))
        rows = await owner.fetch(
            "SELECT * FROM audit WHERE action = $1 AND user_id = $2 AND id <> ALL ($3) ORDER BY id DESC",
            *(row.kind, told.who, before),
        )
        assert rows, f"{row.kind} is not in the log"
        found = rows[0]
        said = (found["target"], found["project_id"], found["detail"], found["client"])
        assert said == (told.target, told.project, told.detail, told.client)
        if told.client == "command line":
            assert (found["credential_id"].int, "@" in found["address"]) == (0, True)
        elif told.client == "this house":
            assert (found["credential_id"].int, found["address"]) == (0, None)
        else:
            assert found["address"] == "127.0.0.1"
            assert found["user_agent"].startswith("python-httpx" if by_program(row, told.client) else AGENT)
            assert (found["credential_id"].int == 0) == (told.client == SIGN_IN_PAGE)
        once = row.kind.startswith("sign_in:")
        assert not once or len(rows) == 1, "once an hour"


def by_program(row: Row, client: str) -> bool:
    """Whether a program sent the request, and not the person's browser."""
    return client in (PROGRAM, KEY) and row.kind != "oauth:disconnected"


async def test_every_kind_of_act_has_a_row() -> None:
    tools = {"create_project", "update_project", "delete_provider_key"}
    decisions = {row.kind for row in ROWS if row.kind.startswith(("allow:", "deny:"))}
    assert {row.kind for row in ROWS} - tools - decisions | set(ELSEWHERE) == set(audit.KINDS)
    assert len(audit.KINDS) == len(set(audit.KINDS))
    for kind, path in ELSEWHERE.items():
        assert f'"{kind}"' in Path(ROOT, path).read_text(encoding="utf-8"), path


async def test_nothing_is_written_into_the_log_that_is_not_among_its_kinds(world: World) -> None:
    """By the database's own functions, and by our code: all that is told to ``ledger.audit`` and to
    ``operator_acts.note`` as it stands there."""
    assert set(audit.KINDS) == {*await told_by_the_database(world.inn.owner), *told_by_code()}


async def told_by_the_database(owner: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    sources = await owner.fetch(
        "SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND prosrc ~ 'INSERT INTO audit|note_act|end_grant'"
    )
    return {kind for row in sources for kind in re.findall(r"'([a-z_]+:[a-z_]+)'", row["prosrc"])}


def told_by_code() -> set[str]:
    found: set[str] = set()
    for folder in ("server", "db", "tools", "agents"):
        for path in sorted(Path(ROOT, folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)) if "audit(" in source or "note(" in source else ():
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ledger.audit", "operator_acts.note"):
                    found |= set(kinds_in(node, path))
    return found


VARIABLE: Final = {
    "server/site/end_users.py": ("token_source:added", "token_source:deleted", "end_users:rules_changed"),
    "db/oauth/devices.py": ("device:allowed", "device:denied"),
    "tools/dispatch.py": (),  # the name of the tool
    "server/v1/threads.py": (),  # the name of the tool that does the same
    "tools/decisions.py": (),  # allow: and deny: with the name of the tool
    "tools/consent.py": (),
    "tools/approval.py": (),
}
"""What is said where the act is no constant."""


def kinds_in(call: ast.Call, path: Path) -> Iterator[str]:
    place = 3 if ast.unparse(call.func) == "ledger.audit" else 1
    given = call.args[place] if len(call.args) > place else None
    constants = [given.body, given.orelse] if isinstance(given, ast.IfExp) else [given]
    for one in constants:
        if isinstance(one, ast.Constant):
            yield str(one.value)
        else:
            yield from VARIABLE[str(path.relative_to(ROOT))]


async def test_every_route_and_command_that_changes_something_has_a_row_or_a_reason(world: World) -> None:
    ways = {way for row in ROWS for way in row.ways} | {"backup", "restore", "keys rotate"}
    routes = {
        route.path
        for route in world.inn.app.routes
        if isinstance(route, Route) and not (route.methods or set()) <= {"GET", "HEAD", "OPTIONS"}
    }
    assert routes | set(commands()) | {"/mcp"} == ways | set(QUIET_ROUTES) | QUIET_COMMANDS
    assert not ways & (set(QUIET_ROUTES) | QUIET_COMMANDS)


def commands() -> Iterator[str]:
    for name, command in choices(cli._parser()).items():
        actions = choices(command)
        yield from (f"{name} {action}" for action in actions) if actions else (name,)


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


async def test_the_pages_say_who_did_it_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_OWNER_URL", world.inn.owner_url)
    async with world.inn.person("One") as person:
        here = replace(world, person=person)
        await here.innkeeper("keys", "create", KEY, "--user", str(here.me), "--project", str(here.one))
        await here.form("keys/new?kind=secret", "keys/new", name="by hand", days="30")
        page = (await person.browser.get(here.path("audit"))).text
        assert page.count("key:created</strong>") == 2
        assert "The operator" in page
        by = await person.browser.get(here.path("audit"), params={"by": str(here.me)})
        assert by.text.count("key:created</strong>") == 1, "what was done to them is not what they did"
        link = next(row for row in ROWS if row.act.__name__ == "open_somebody_elses_link")
        await link.act(here)
        await person.sign_in()
        own = (await person.browser.get("/account/audit")).text
        assert "Somebody who was not signed in" in own
        assert "in another browser" in own
