"""The wheel, away from the checkout: it holds what it needs to migrate and to serve."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 200


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("innkeeper-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout with nothing but what the wheel brings."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database(cluster: EmbeddedPostgres) -> AsyncIterator[dict[str, str]]:
    """The addresses of a database without a schema, under the names that settings have."""
    name = f"test_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    await superuser.execute(f'CREATE DATABASE "{name}" OWNER innkeeper_owner')
    try:
        yield {
            "DATABASE_OWNER_URL": cluster.url(name, "innkeeper_owner"),
            "DATABASE_URL": cluster.url(name, "innkeeper_app"),
            "DATABASE_OPS_URL": cluster.url(name, "innkeeper_ops"),
        }
    finally:
        await superuser.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await superuser.close()


async def start(installed: Path, environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server.cli", *arguments),
        cwd=installed,
        env=inherited | environment | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def line_with(process: asyncio.subprocess.Process, words: str) -> str:
    """The first line that has ``words``; what was printed before it goes into the failure."""
    assert process.stdout is not None
    seen = b""
    async for line in process.stdout:
        seen += line
        if words.encode() in line:
            return line.decode()
    raise AssertionError(f"no line with {words!r} in:\n{seen.decode()}")


@pytest.mark.promise("HOME-01")
def test_the_wheel_holds_the_packages_and_the_migrations_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    (metadata,) = tops - {"agents", "db", "migrations", "server", "tools"}
    assert metadata.endswith(".dist-info")
    assert {f"{name}/py.typed" for name in ("agents", "db", "migrations", "server", "tools")} <= set(names)
    assert any(name.startswith("migrations/versions/0001") for name in names)
    assert f"{metadata}/licenses/LICENSE" in names
    assert "innkeeper = server.cli:main" in zipfile.ZipFile(wheel).read(f"{metadata}/entry_points.txt").decode()


@pytest.mark.promise("HOME-01")
@pytest.mark.asyncio(loop_scope="session")
async def test_an_installed_wheel_migrates_and_serves_outside_the_checkout(
    installed: Path, empty_database: dict[str, str]
) -> None:
    async with asyncio.timeout(DEADLINE):
        migrate = await start(installed, empty_database, "migrate")
        said, _ = await migrate.communicate()
        assert migrate.returncode == 0, said.decode()

        served = empty_database | {
            "INNKEEPER_PUBLIC_URL": "http://127.0.0.1:1",
            "INNKEEPER_ROOT_SECRET": "Xb4Zt9mQw2Ls7Kd0Vf5Gh8Jr1Ny6Pc3TeUa",
        }
        del served["DATABASE_OWNER_URL"]
        serve = await start(installed, served, "serve", "--port", "0")
        try:
            url = (await line_with(serve, "listening on")).split()[-1].strip('",')
            async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/readyz")).status_code == 200
                assert (await client.post("/mcp", json={})).status_code == 401
            serve.send_signal(signal.SIGTERM)
            rest, _ = await serve.communicate()
            assert serve.returncode == 0, rest.decode()
        finally:
            if serve.returncode is None:
                serve.kill()
                await serve.wait()
