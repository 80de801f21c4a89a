"""Every snippet of docs/runs.md that starts a run, carried out as it stands there, against the product on a socket."""

from __future__ import annotations

import re
from pathlib import Path

from tests.clients.javascript import JavaScript
from tests.clients.test_connect_your_client import ADDRESS, run
from tests.conftest import Tenant
from tests.serving import Served

PAGE = Path(__file__).resolve().parents[2] / "docs" / "runs.md"
SNIPPETS = dict(re.findall(r"<!-- snippet: (\w+) -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


async def test_a_run_is_started_looked_at_and_resumed_by_curl(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    key = tmp_path / ".local/share/innkeeper/api_key"
    key.parent.mkdir(parents=True)
    key.write_text(tenant.token, encoding="utf-8")
    said = await run("bash", "-euc", SNIPPETS["curl"].replace(ADDRESS, served.url), folder=tmp_path)
    assert said.count('"type":"RUN_FINISHED"') == 2, said
    numbers = [int(number) for number in re.findall(r"^id: (\d+)$", said, re.MULTILINE)]
    assert numbers == [*range(1, max(numbers) + 1), *range(6, max(numbers) + 1)]
    assert said.count('"status":"succeeded"') == 2, "where it stands, and that it had ended already"


async def test_a_run_is_shown_by_the_javascript_client(
    served: Served, tenant: Tenant, javascript: JavaScript, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(javascript.modules)
    (tmp_path / "client.mjs").write_text(SNIPPETS["javascript"].replace(ADDRESS, served.url), encoding="utf-8")
    ended = await javascript.run("client.mjs", folder=tmp_path, environment={"INNKEEPER_KEY": tenant.token})
    assert ended.code == 0, ended.err
    assert "I am the demo agent" in ended.out
    assert "(create_project)\n(list_projects)\n" in ended.out
