"""How clients are found, on each system, and where their files are."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from server.connect import files, placing
from server.connect.clients import CLIENTS, Computer
from server.refusal import Refusal

pytestmark = pytest.mark.promise("IDN-40")
HOME = Path("/home/ada")
FILES = {
    ("linux", "claude-code"): ".claude.json",
    ("linux", "cursor"): ".cursor/mcp.json",
    ("linux", "vscode"): ".config/Code/User/mcp.json",
    ("linux", "vscode-insiders"): ".config/Code - Insiders/User/mcp.json",
    ("linux", "codex"): ".codex/config.toml",
    ("darwin", "cursor"): ".cursor/mcp.json",
    ("darwin", "vscode"): "Library/Application Support/Code/User/mcp.json",
    ("darwin", "codex"): ".codex/config.toml",
    ("win32", "claude-code"): ".claude.json",
    ("win32", "vscode"): "AppData/Roaming/Code/User/mcp.json",
    ("win32", "vscode-insiders"): "AppData/Roaming/Code - Insiders/User/mcp.json",
}
BY_ID = {client.id: client for client in CLIENTS}


@pytest.mark.parametrize(("platform", "client"), FILES)
def test_each_client_has_its_file_where_its_system_puts_it(platform: str, client: str) -> None:
    assert BY_ID[client].file(Computer(platform, HOME, {})) == HOME / FILES[platform, client]


@pytest.mark.parametrize(
    ("client", "variable", "file"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("vscode", "XDG_CONFIG_HOME", "Code/User/mcp.json"),
    ],
)
def test_a_variable_of_the_client_moves_its_file(client: str, variable: str, file: str) -> None:
    assert BY_ID[client].file(Computer("linux", HOME, {variable: "/srv/x"})) == Path("/srv/x") / file


def test_a_client_is_found_by_its_program_or_by_its_folder_and_not_without(tmp_path: Path) -> None:
    home, programs = tmp_path / "home", tmp_path / "bin"
    programs.mkdir()
    computer = Computer("linux", home, {"PATH": str(programs)})
    assert [client.id for client in CLIENTS if client.found(computer)] == []
    (programs / "codex").write_text("")
    (programs / "codex").chmod(0o755)
    (home / ".config" / "Code" / "User").mkdir(parents=True)
    (home / ".claude").mkdir()
    (home / ".cursor").write_text("a file is no folder")
    found = {client.id: client.found(computer) for client in CLIENTS if client.found(computer)}
    assert found == {
        "claude-code": str(home / ".claude"),
        "vscode": str(home / ".config" / "Code" / "User"),
        "codex": str(programs / "codex"),
    }


def test_the_command_line_for_headers_keeps_the_folder_it_is_started_in_out_of_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Clients start it in the folder of anybody's project."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a b" / "python"))
    house = "https://inn.example"
    words = [str(tmp_path / "a b" / "python"), "-P", "-m", "server.cli", "token", "--headers", house]
    assert shlex.split(placing.helper(house)) == words
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "innkeeper").touch()
    assert shlex.split(placing.helper(house)) == [str(tmp_path / "a b" / "innkeeper"), "token", "--headers", house]
    monkeypatch.setattr(sys, "platform", "win32")
    assert placing.helper(house) == subprocess.list2cmdline(words)


def test_a_file_that_somebody_changes_at_the_same_moment_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("{}")
    before = files.read(file)
    file.write_text('{"theirs": 1}')
    with pytest.raises(Refusal, match="changed by another program"):
        files.write(before, '{"ours": 1}')
    assert file.read_text() == '{"theirs": 1}'
    assert [entry.name for entry in tmp_path.iterdir()] == ["mcp.json"]


def test_a_new_file_is_its_owners_alone_and_a_link_that_leads_nowhere_yet_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "home" / "mcp.json"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "dotfiles" / "mcp.json")
    files.write(files.read(link), "{}")
    assert link.is_symlink()
    assert (tmp_path / "dotfiles" / "mcp.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", None])
def test_what_is_no_text_file_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mcp.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(Refusal, match="left alone"):
        files.read(file)
