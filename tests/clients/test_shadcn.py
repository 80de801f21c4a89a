"""The real shadcn CLI: it starts projects from a running Innkeeper and adds components to them, public and by key.

``REGISTRY_URL`` keeps it from asking its own registry for anything: nothing here needs the internet but npm.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from db import accounts
from tests import node
from tests.clients.javascript import Ended, JavaScript
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.serving import Served, house_on_socket, scripted

CLSX = "clsx@^2.1.0"
BASE = {
    "name": "base",
    "type": "registry:base",
    "extends": "none",
    "config": {"style": "new-york", "iconLibrary": "lucide"},
    "cssVars": {"light": {"brand": "oklch(0.6 0.2 40)"}, "dark": {"brand": "oklch(0.8 0.2 40)"}},
}


def component(name: str, folder: str, code: str, **more: Any) -> dict[str, Any]:
    kind = f"registry:{folder}"
    suffix = "ts" if folder == "lib" else "tsx"
    return {
        "name": name,
        "type": kind,
        "files": [{"path": f"{folder}/{name}.{suffix}", "type": kind, "content": code}],
        **more,
    }


COMPONENTS = [
    BASE,
    component("utils", "lib", 'import { clsx } from "clsx"\nexport const cn = clsx\n', dependencies=[CLSX]),
    component("button", "ui", "export const Button = () => <button />\n", registryDependencies=["utils"]),
    component("card", "ui", "export const Card = () => <div />\n", registryDependencies=["button", "utils@^1.0.0"]),
]


@dataclass
class App:
    """A project of somebody who uses the CLI."""

    folder: Path
    javascript: JavaScript
    environment: dict[str, str]

    async def shadcn(self, *arguments: str) -> Ended:
        start = self.javascript.modules / "shadcn" / "dist" / "index.js"
        return await self.javascript.run(str(start), *arguments, folder=self.folder, environment=self.environment)

    async def runs(self, *arguments: str) -> str:
        ended = await self.shadcn(*arguments)
        assert ended.code == 0, ended.out + ended.err
        return ended.out

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")


def new_app(folder: Path, javascript: JavaScript, house: str, *, registries: dict[str, Any], key: str = "") -> App:
    """An empty Vite project with Tailwind, as their own starters make it."""
    (folder / "src").mkdir(parents=True)
    package = {"name": "app", "private": True, "type": "module", "registries": registries}
    package["devDependencies"] = {"tailwindcss": "^4.1.0"}
    paths = {"jsx": "react-jsx", "baseUrl": ".", "paths": {"@/*": ["./src/*"]}}
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": paths}))
    (folder / "vite.config.ts").write_text("export default {}\n")
    (folder / "src" / "index.css").write_text('@import "tailwindcss";\n')
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\nexec "{node.node()}" "{node.npm()}" "$@"\n')
    npm.chmod(0o755)
    environment = node.environment() | {"REGISTRY_URL": f"{house}/r", "INNKEEPER_FEED_KEY": key}
    environment |= {"npm_config_omit": "dev", "npm_config_prefer_offline": "true", "npm_config_ignore_scripts": "true"}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    return App(folder, javascript, environment)


@pytest_asyncio.fixture
async def served(urls: DatabaseUrls, model: ScriptedModel, tmp_path: Path) -> AsyncIterator[Served]:
    """The whole product on a socket, with its files on the disk."""
    async with house_on_socket(urls, scripted(model.base_url), tmp_path / "files") as served:
        yield served


@pytest_asyncio.fixture
async def published(served: Served, tenant: Tenant, owner: Owner) -> None:
    """The components, published over MCP, in a registry that is open to everybody."""
    await owner.execute("UPDATE projects SET registry_public = true, approval_policy = 'never'")
    headers = {"authorization": f"Bearer {tenant.token}", "accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        for number, item in enumerate(COMPONENTS):
            arguments = {"project_id": str(tenant.project_id), "item": item}
            params = {"name": "publish_component", "arguments": arguments}
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            answer = (await http.post(served.mcp, json=body)).json()
            assert not answer["result"].get("isError"), answer


def check(app: App) -> None:
    """What every app has in the end, whichever way it came."""
    assert json.loads(app.text("components.json"))["style"] == "new-york"
    assert "oklch(0.6 0.2 40)" in app.text("src/index.css")
    assert "Card" in app.text("src/components/ui/card.tsx")
    assert "Button" in app.text("src/components/ui/button.tsx")
    assert "clsx" in app.text("src/lib/utils.ts")
    assert json.loads(app.text("package.json"))["dependencies"]["clsx"].startswith("^2")
    assert (app.folder / "node_modules" / "clsx").is_dir()


@pytest.mark.promise("REG-03", "REG-01")
@pytest.mark.usefixtures("published")
async def test_the_shadcn_cli_starts_projects_and_adds_components_with_what_they_need(
    served: Served, tenant: Tenant, owner: Owner, javascript: JavaScript, tmp_path: Path
) -> None:
    _id, key = await accounts.create_feed_key(owner, tenant.user_id, tenant.project_id)
    feed = f"{served.url}/r/{tenant.project_id}"
    headers = {"Authorization": "Bearer ${INNKEEPER_FEED_KEY}"}
    registries = {"@innkeeper": {"url": f"{served.url}/r/{{name}}.json", "headers": headers}}
    public = new_app(tmp_path / "public", javascript, served.url, registries={})
    keyed = new_app(tmp_path / "keyed", javascript, served.url, registries=registries, key=key)

    async def install(app: App, base: str, card: str) -> None:
        await app.runs("init", "--yes", base)
        await app.runs("add", "--yes", card)
        check(app)

    await asyncio.gather(
        install(public, f"{feed}/base.json", f"{feed}/card.json"), install(keyed, "@innkeeper/base", "@innkeeper/card")
    )

    assert "@innkeeper/card" in await keyed.runs("search", "@innkeeper", "--query", "card")
    await owner.execute("UPDATE credentials SET revoked_at = now() WHERE kind = 'feed'")
    refused = await keyed.shadcn("add", "--yes", "--overwrite", "@innkeeper/button")
    assert refused.code != 0
    assert "authorized" in refused.out
