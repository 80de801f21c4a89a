"""Node and the packages for it come by this repository's own files, the same for everybody."""

from __future__ import annotations

import json
import re

import pytest

from tests.clients.javascript import JavaScript

JUDGES = {
    "@ag-ui/client": "1.0.0",
    "@modelcontextprotocol/client": "2.4.0",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/sdk": "1.32.2",
}


@pytest.mark.promise("HOME-40")
async def test_node_22_and_the_named_versions_of_the_clients_are_what_runs(javascript: JavaScript) -> None:
    version = await javascript.run("--version")
    assert version.out.startswith("v22.")
    found = {
        name: json.loads((javascript.modules / name / "package.json").read_text(encoding="utf-8"))["version"]
        for name in JUDGES
    }
    assert found == JUDGES


def test_the_lock_pins_every_package_by_hash_and_names_no_address_to_fetch_it_from(javascript: JavaScript) -> None:
    text = (javascript.folder / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    packages.pop("")
    assert all("integrity" in package or package.get("inBundle") for package in packages.values())
    assert "resolved" not in text
    addresses = set(re.findall(r"https?://([^/\"]+)", text))
    assert not {host for host in addresses if "npm" in host or "registry" in host or ":" in host}
