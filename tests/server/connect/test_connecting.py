"""``innkeeper connect`` on a computer of its own, against the house on a socket: in, proven, again, and out."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import tomllib
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.connect import signing_in
from server.connect.jsonc_scan import scan
from tests.claude_code import bundled
from tests.server.command import ended
from tests.server.connect.desk import Desk, decide, shown
from tests.server.edge_services import served
from tests.server.oauth.people import Inn, Person, call

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-40")]
VSCODE = ".config/Code/User/mcp.json"
CURSOR = ".cursor/mcp.json"
CODEX = ".codex/config.toml"
HTTP = ("--transport", "http")
FILES = {
    CURSOR: b'{\n  // mine\n  "mcpServers": {\n    "a": { "url": "https://a.example" },\n  },\n}\n',
    VSCODE: b'{\r\n\t"servers": {},\r\n\t"inputs": [] // none\r\n}\r\n',
    CODEX: b'model = "o9"\n\n[mcp_servers.a]\ncommand = "x"',
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / CODEX).chmod(0o640)
    return Desk(tmp_path)


async def test_the_clients_of_a_computer_are_connected_again_and_taken_out_byte_for_byte(
    inn: Inn, person: Person, desk: Desk
) -> None:
    untouched = desk.everything()
    asking = await desk.run("connect", "--url", inn.url)
    assert asking.code == 2
    assert "--yes" in asking.err
    assert "Found VS Code" in asking.err
    assert desk.everything() == untouched

    done = await desk.let_in(person, "connect", "--url", f"{inn.url}/mcp", "--yes", "--read-only", *HTTP)
    assert done.code == 0, done.err
    assert "list_projects answered" in done.err
    url = f"{inn.url}/mcp?read_only=1"
    assert f'"innkeeper": {{\n      "url": "{url}"\n    }}\n  }},\n}}'.encode() in desk.read(CURSOR)
    assert b"// mine" in desk.read(CURSOR)
    assert f'\t\t"innkeeper": {{\r\n\t\t\t"type": "http",\r\n\t\t\t"url": "{url}"'.encode() in desk.read(VSCODE)
    assert f'\n\n[mcp_servers.innkeeper]\nurl = "{url}"\nhttp_headers_helper = "'.encode() in desk.read(CODEX)
    assert (desk.home / CODEX).stat().st_mode & 0o777 == 0o640
    assert desk.read(f"{CURSOR}.before-innkeeper") == FILES[CURSOR]

    token = desk.tokens[inn.url]["access_token"]
    holding = [name for name, content in desk.everything().items() if token.encode() in content]
    assert holding == [".config/innkeeper/tokens.json"]
    assert (desk.home / holding[0]).stat().st_mode & 0o777 == 0o600
    assert token not in done.out + done.err

    after = desk.everything()
    again = await desk.run("connect", "--url", inn.url, "--yes", "--read-only", *HTTP)
    assert again.code == 0, again.err
    assert again.err.count("already there") == 3
    assert again.out == ""
    assert desk.everything() == after

    mine = desk.read(CURSOR).replace(f'"{url}"'.encode(), f'"{url}",\n      "disabled": true'.encode())
    (desk.home / CURSOR).write_bytes(mine)
    wider = await desk.run("connect", "cursor", "--url", inn.url, *HTTP)
    assert wider.code == 0, wider.err
    assert "Cursor: changed" in wider.err
    assert f'"url": "{inn.url}/mcp",\n      "disabled": true\n'.encode() in desk.read(CURSOR)

    gone = await desk.run("connect", "--remove")
    assert gone.code == 0, gone.err
    assert {name: content for name, content in desk.everything().items() if name in FILES} == FILES
    assert not [name for name in desk.everything() if name.endswith(".before-innkeeper")]
    assert (desk.home / CODEX).stat().st_mode & 0o777 == 0o640
    assert desk.tokens == {}
    assert (await call(inn, token, "list_projects")).status_code == 401
    nothing = await desk.run("connect", "--remove")
    assert (nothing.code, "Nothing" in nothing.err) == (0, True)


async def test_a_sign_in_of_before_is_used_and_outlives_the_connection(inn: Inn, person: Person, desk: Desk) -> None:
    signed_in = await desk.let_in(person, "login", inn.url)
    assert signed_in.code == 0, signed_in.err
    first = desk.tokens[inn.url]["access_token"]
    assert (await desk.run("token", inn.url)).out.strip() == first

    await inn.owner.execute("UPDATE oauth_access_tokens SET expires_at = now()")
    done = await desk.run("connect", "codex", "--url", inn.url)
    assert (done.code, done.out) == (0, ""), done.err
    second = desk.tokens[inn.url]["access_token"]
    assert second != first
    headers = json.loads((await desk.run("token", "--headers", inn.url)).out)
    assert headers == {"Authorization": f"Bearer {second}"}

    theirs = desk.read(CODEX) + b'\n[mcp_servers.innkeeper.tools.x]\napproval_mode = "prompt"\n'
    (desk.home / CODEX).write_bytes(theirs)
    other = await desk.run("connect", "codex", "--url", inn.url, "--read-only")
    assert (other.code, "has settings of yours" in other.err) == (2, True), other.err
    assert "already there" in (await desk.run("connect", "codex", "--url", inn.url)).err
    assert desk.read(CODEX) == theirs

    assert (await desk.run("connect", "--remove", "codex")).code == 0
    assert desk.read(CODEX) == FILES[CODEX]

    assert (await desk.run("connect", "--yes", "--url", inn.url, *HTTP)).code == 0
    done = await desk.run("connect", "--yes", "--url", inn.url, "--read-only")
    assert done.err.count(": changed in") == 3, done.err
    entries = [scan(desk.read(CURSOR).decode()).value["mcpServers"], scan(desk.read(VSCODE).decode()).value["servers"]]
    by_cursor, by_vscode, by_codex = (
        found["innkeeper"] for found in (*entries, tomllib.loads(desk.read(CODEX).decode())["mcp_servers"])
    )
    assert by_vscode == {"type": "stdio", **by_cursor}
    assert (by_codex["url"], "http_headers_helper" in by_codex) == (f"{inn.url}/mcp?read_only=1", True)
    async with Client(stdio_client(StdioServerParameters(**by_cursor, env=desk.environ(), cwd=desk.home))) as program:
        assert "create_project" not in {tool.name for tool in (await program.list_tools()).tools}
        assert (await program.call_tool("list_projects", {})).is_error is False
    assert (await desk.run("connect", "--remove")).code == 0
    assert {name: desk.read(name) for name in FILES} == FILES
    assert (await call(inn, second, "list_projects")).status_code == 200
    nobody = await desk.run("token", "http://127.0.0.1:1")
    assert (nobody.code, "innkeeper login" in nobody.err) == (2, True)


async def test_files_that_are_better_left_alone_are_and_the_others_are_connected(
    inn: Inn, person: Person, desk: Desk
) -> None:
    assert (await desk.let_in(person, "login", inn.url)).code == 0
    broken = b'{\n  "mcpServers": {\n'
    (desk.home / CURSOR).write_bytes(broken)
    taken = b'{"servers": {"innkeeper": {"command": "somebody-elses"}}}'
    (desk.home / VSCODE).write_bytes(taken)
    real = desk.home / "dotfiles.toml"
    (desk.home / CODEX).rename(real)
    (desk.home / CODEX).symlink_to(real)

    done = await desk.run("connect", "--url", inn.url, "--yes")
    assert done.code == 2
    assert "mcp.json is left alone" in done.err
    assert "Line 3, column 1" in done.err
    assert "another server named innkeeper" in done.err
    assert "2 of 3 clients" in done.err
    assert (desk.read(CURSOR), desk.read(VSCODE)) == (broken, taken)
    assert (desk.home / CODEX).is_symlink()
    assert b"[mcp_servers.innkeeper]" in real.read_bytes()
    helper = tomllib.loads(real.read_text())["mcp_servers"]["innkeeper"]["http_headers_helper"]
    shell = await asyncio.create_subprocess_shell(
        helper, cwd=desk.home, env=desk.environ(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert json.loads((await ended(shell)).out) == {"Authorization": f"Bearer {desk.tokens[inn.url]['access_token']}"}

    other = await desk.run("connect", "vscode", "--url", inn.url, "--name", "house")
    assert other.code == 0, other.err
    assert json.loads(desk.read(VSCODE))["servers"]["innkeeper"] == {"command": "somebody-elses"}
    assert (await desk.run("connect", "--remove", "--name", "house")).code == 0
    assert desk.read(VSCODE) == taken
    assert b"[mcp_servers.innkeeper]" in real.read_bytes()
    assert (await desk.run("connect", "--remove")).code == 0
    assert (real.read_bytes(), (desk.home / CODEX).is_symlink()) == (FILES[CODEX], True)

    before = sorted(desk.home.rglob("*"))
    url = f"{inn.url}/mcp?read_only=1&project={person.projects['One']}"
    runs = [await desk.start("connect", client, "--url", url) for client in ("claude-code", "vscode-insiders")]
    both = [await ended(one) for one in runs]
    assert [one.code for one in both] == [0, 0]
    assert all("get_project answered" in one.err and "is not to be seen" in one.err for one in both), both
    there = json.loads(desk.read(".config/Code - Insiders/User/mcp.json"))
    assert there["servers"]["innkeeper"]["args"][-1] == url
    gone = await desk.run("connect", "--remove")
    assert gone.err.count("innkeeper taken out of") == 2, "two runs at once remember both"
    assert sorted(desk.home.rglob("*")) == before


async def test_who_is_not_let_in_leaves_everything_as_it_was(inn: Inn, person: Person, desk: Desk) -> None:
    untouched = desk.everything()
    process = await desk.start("connect", "--yes", "--url", inn.url)
    await decide(person, (await shown(process)).rpartition("=")[2], "deny")
    refused = await ended(process)
    assert (refused.code, "did not allow" in refused.err) == (2, True), refused.err
    assert desk.everything() == untouched


async def test_a_person_at_a_terminal_is_asked_first(inn: Inn, desk: Desk) -> None:
    untouched = desk.everything()
    terminal, its_side = pty.openpty()
    process = await desk.start("connect", "--url", inn.url, stdin=its_side)
    os.close(its_side)
    os.write(terminal, b"n\n")
    refused = await ended(process)
    os.close(terminal)
    assert (refused.code, "Connect these? [Y/n]" in refused.err, "Nothing was changed" in refused.err) == (
        2,
        True,
        True,
    )
    assert desk.everything() == untouched


async def test_what_is_not_known_here_is_printed_and_nothing_is_touched(inn: Inn, desk: Desk) -> None:
    before = desk.everything()
    project = "0190c0de-0000-7000-8000-000000000001"
    shown = await desk.run("connect", "zed", "--url", inn.url, "--project", project, "--tools", "projects,runs")
    url = f"{inn.url}/mcp?project={project}&tools=projects,runs"
    assert shown.code == 0
    assert "'zed' is not known here" in shown.err
    assert f"URL     {url}" in shown.out
    assert "Authorization: Bearer" in shown.out
    assert f'"url": "{url}"' in shown.out
    codex = await desk.run("connect", "codex", "--url", inn.url, "--print")
    assert codex.out == f'[mcp_servers.innkeeper]\nurl = "{inn.url}/mcp"\n'
    assert "config.toml. It asks you to sign in" in codex.err
    code = await desk.run("connect", "code", "--url", inn.url, "--print")
    assert '"type": "stdio"' in code.out, "as it is typed"
    assert f"mcp.json. It needs you to be signed in: innkeeper login {inn.url}" in code.err
    program = tomllib.loads(
        (await desk.run("connect", "codex", "--url", inn.url, "--print", "--transport", "stdio")).out
    )
    assert program["mcp_servers"]["innkeeper"]["args"][-2:] == ["stdio", f"{inn.url}/mcp"]
    assert desk.everything() == before


@pytest.mark.timeout(200)
async def test_claude_code_is_connected_by_its_own_program_and_signed_in(
    inn: Inn, person: Person, tmp_path: Path
) -> None:
    programs = bundled()
    desk = Desk(tmp_path, f"{programs}:/usr/bin:/bin")
    done = await desk.let_in(person, "connect", "claude-code", "--url", inn.url)
    assert done.code == 0, done.err
    config = json.loads(desk.read(".claude.json"))
    entry = config["mcpServers"]["innkeeper"]
    assert (entry["type"], entry["url"]) == ("http", inn.resource)
    assert "ik_" not in json.dumps(config)

    listed = await asyncio.create_subprocess_exec(
        programs / "claude", "mcp", "list", cwd=tmp_path,
        env=desk.environ({"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = await ended(listed)
    (line,) = [line for line in said.out.splitlines() if line.startswith("innkeeper:")]
    assert "Connected" in line

    again = await desk.run("connect", "claude-code", "--url", inn.url)
    assert "Claude Code: already there" in again.err
    assert (await desk.run("connect", "--remove")).code == 0
    assert "innkeeper" not in json.loads(desk.read(".claude.json")).get("mcpServers", {})
    assert desk.tokens == {}


async def test_a_house_that_restarts_while_somebody_decides_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def house(request: Request) -> Response:
        asked.append(request.url.path)
        if request.url.path != "/token":
            base = str(request.base_url).rstrip("/")
            device = {"device_code": "d", "user_code": "U", "interval": 0.01, "expires_in": 60}
            endpoints = {"token_endpoint": f"{base}/token", "device_authorization_endpoint": f"{base}/device"}
            return JSONResponse({**endpoints, **device, "verification_uri_complete": base})
        if len(asked) == 3:
            return Response("restarting", 502)
        return JSONResponse({"access_token": "t", "expires_in": 3600})

    monkeypatch.setattr(signing_in, "SLOWER", 0.01)
    app = Starlette(routes=[Route("/{path:path}", house, methods=["GET", "POST"])])
    async with served(app) as (host, port), signing_in.client() as http:
        assert (await signing_in.sign_in(http, f"http://{host}:{port}"))["access_token"] == "t"
    assert asked[-2:] == ["/token", "/token"]
