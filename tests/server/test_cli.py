from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.machine import Stopwatch, within
from tests.server.command import run


@pytest.mark.promise("HOME-07")
async def test_version_and_help_import_nothing_heavy(tmp_path: Path) -> None:
    async def asking_for_the_version() -> float:
        watch = Stopwatch()
        version = await run("--version", cwd=tmp_path)
        assert (version.code, version.err) == (0, "")
        assert version.out.startswith("innkeeper ")
        return watch.seconds()

    await within(5.0, asking_for_the_version)
    listing = await run("--help", cwd=tmp_path)
    for command in ("up", "serve", "worker", "migrate", "keys", "backup", "restore", "doctor", "settings"):
        assert f"\n    {command} " in listing.out


@pytest.mark.parametrize("arguments", [["up", "--port", "70000"], ["keys", "create", "x", "--days", "0"], ["fly"], []])
async def test_wrong_arguments_are_a_sentence_and_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    ended = await run(*arguments, cwd=tmp_path)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "innkeeper" in ended.err


@pytest.mark.promise("HOME-08")
async def test_the_settings_command_prints_the_page_of_the_documentation(tmp_path: Path) -> None:
    ended = await run("settings", "--markdown", cwd=tmp_path)
    assert ended.out == (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    listed = await run("settings", cwd=tmp_path)
    assert "DATABASE_URL" in listed.out


@pytest.mark.promise("HOME-06")
@pytest.mark.parametrize("command", ["up", "serve"])
async def test_malformed_settings_are_all_told_at_once(command: str, tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "nonsense", "INNKEEPER_LOG_LEVEL": "loud", "INNKEEPER_ENV": "production"}
    ended = await run(command, cwd=tmp_path, environ=environ)
    assert ended.code == 2
    assert ended.out == ""
    for name in ("DATABASE_URL", "INNKEEPER_LOG_LEVEL", "INNKEEPER_ROOT_SECRET", "INNKEEPER_PUBLIC_URL"):
        assert f"innkeeper: {name} must be " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.promise("HOME-02")
async def test_up_reads_dotenv_and_serve_does_not(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("INNKEEPER_LOG_LEVEL=loud\n")
    assert "INNKEEPER_LOG_LEVEL" in (await run("up", cwd=tmp_path)).err
    serve = await run("serve", cwd=tmp_path)
    assert serve.code == 2
    assert "INNKEEPER_LOG_LEVEL" not in serve.err


@pytest.mark.promise("HOME-06")
async def test_an_occupied_port_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await run("up", "--port", port, "--data", tmp_path / "data", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == (
        f"innkeeper: Port {port} on 127.0.0.1 is taken by another program: stop it, or choose another with --port "
        "(0: any).\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.promise("HOME-06")
async def test_a_foreign_address_is_refused(tmp_path: Path) -> None:
    for host in ("203.0.113.7", "no.such.host.invalid"):
        ended = await run("up", "--host", host, "--data", tmp_path / "data", cwd=tmp_path)
        assert ended.code == 2
        assert f"--host {host} is not an address of this machine" in ended.err


@pytest.mark.promise("HOME-06")
async def test_an_unwritable_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for unwritable in (tmp_path / "file" / "below", Path("/proc/innkeeper")):
        ended = await run("up", "--port", "0", "--data", unwritable, cwd=tmp_path)
        assert ended.code == 2
        assert f"The data directory {unwritable} cannot be written" in ended.err
        assert "Traceback" not in ended.err


@asynccontextmanager
async def old_postgres() -> AsyncIterator[int]:
    """The port of a server that greets as PostgreSQL 15 does, and knows no more."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(length - 4)
        # An answer of one byte refuses TLS; the client then starts over in the clear.
        if length == 8:
            writer.write(b"N")
            length = int.from_bytes(await reader.readexactly(4))
            await reader.readexactly(length - 4)
        writer.write(b"R" + (8).to_bytes(4) + (0).to_bytes(4))
        for name, value in (("server_version", "15.4"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8")):
            status = name.encode() + b"\0" + value.encode() + b"\0"
            writer.write(b"S" + (len(status) + 4).to_bytes(4) + status)
        writer.write(b"Z" + (5).to_bytes(4) + b"I")
        await writer.drain()
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.promise("HOME-06")
async def test_a_database_that_is_too_old_is_told_with_its_version(tmp_path: Path) -> None:
    async with old_postgres() as port:
        url = f"postgresql://someone:hunter2hunter2@127.0.0.1:{port}/db"
        ended = await run("up", "--port", "0", "--data", tmp_path / "data", cwd=tmp_path, environ={"DATABASE_URL": url})
    assert ended.code == 2
    assert "PostgreSQL 15.4, and Innkeeper needs 16 or later" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.promise("HOME-06")
async def test_an_unreachable_database_is_told_without_its_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"postgresql://someone:hunter2hunter2@127.0.0.1:{port}/db"
    ended = await run("up", "--port", "0", "--data", tmp_path / "data", cwd=tmp_path, environ={"DATABASE_URL": url})
    assert ended.code == 2
    assert f"DATABASE_URL (127.0.0.1:{port}) cannot be reached" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err
