"""``innkeeper doctor --mcp`` at the real house: nothing to complain of, and what it says of worthless tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.diagnosis.examine import examine
from server.finding import Finding
from tests.server.oauth.people import Inn, Person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-40")]


async def found(url: str, token: str | None, folder: Path) -> list[Finding]:
    file = None
    if token is not None:
        file = folder / "token"
        file.write_text(token)
        file.chmod(0o600)
    return [finding async for finding in examine(url, file)]


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.subject, finding.verdict) for finding in findings if finding.verdict in ("warn", "fault")]


async def test_the_house_is_in_order_until_the_token_ends(inn: Inn, person: Person, tmp_path: Path) -> None:
    assert wrong(await found(inn.resource, None, tmp_path)) == []
    program = await inn.program()
    tokens = await program.tokens(person)
    token = tokens["access_token"]
    well = await found(f"{inn.resource}?read_only=1", token, tmp_path)
    assert wrong(well) == []
    said = {finding.subject: finding.said for finding in well}
    assert said["handshake"].startswith("innkeeper 0.")
    assert "2026-07-28" in said["modern"]
    assert said["registration"].endswith("dynamic registration")
    assert said["tools"] == "2 tools"
    assert said["call"] == "list_projects answered"
    assert wrong(await found(inn.resource.replace("http://", "HTTP://"), token, tmp_path)) == []
    elsewhere = await found(f"{inn.resource}?project=00000000-0000-7000-8000-000000000000", token, tmp_path)
    assert wrong(elsewhere) == [("call", "fault")]
    misspelled = await found(f"{inn.resource}?tools=nope", token, tmp_path)
    assert wrong(misspelled) == [("handshake", "fault")]
    assert all("check what stands behind '?'" in str(findings) for findings in (elsewhere, misspelled))

    assert wrong(await found(f"{inn.resource}?tools=agents", token, tmp_path)) == [("tools", "warn")]
    assert wrong(await found(f"{inn.url}/", token, tmp_path)) == [("path", "fault")]
    assert wrong(await found(inn.resource, token[:-3], tmp_path)) == [("token", "fault")]
    assert wrong(await found(inn.resource, tokens["refresh_token"], tmp_path)) == [("token", "fault")]
    await program.post("/oauth/revoke", token=tokens["refresh_token"])
    ended = await found(inn.resource, token, tmp_path)
    assert wrong(ended) == [("token", "fault")]
    assert "sign in again" in ended[-1].said
    assert token not in str(ended)
