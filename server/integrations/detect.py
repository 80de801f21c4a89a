"""Finds model servers that already run on this machine: Ollama and LM Studio, on loopback only.

Nothing is sent but two GET requests to their well-known ports; whatever does not answer like them is ignored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

HOSTS: Mapping[str, str] = {"ollama": "http://127.0.0.1:11434", "lmstudio": "http://127.0.0.1:1234"}
TITLES: Mapping[str, str] = {"ollama": "Ollama", "lmstudio": "LM Studio"}
LONGEST_ANSWER = 1 << 20  # bytes
NOT_FOR_CHAT = ("embed", "bge-", "minilm", "rerank", "whisper", "-ocr", "moderation", "guard")
REMOTE = ("-cloud", ":cloud")  # Ollama forwards these to its own service: nobody asked to send anything there


@dataclass(frozen=True)
class Detected:
    """A server that answers. ``base_url``: its OpenAI-compatible address, ends in ``/v1``.

    ``models``: its chat models that run on this machine, in the server's own order (the latest first in Ollama).
    """

    kind: str
    base_url: str
    models: tuple[str, ...]

    @property
    def title(self) -> str:
        return TITLES[self.kind]

    @property
    def model_id(self) -> str:
        """The id of the model to take when nobody names one."""
        return f"{self.kind}:{self.models[0]}"


async def detect_local_servers(timeout: float = 0.3, hosts: Mapping[str, str] = HOSTS) -> list[Detected]:
    """Servers that answer within ``timeout`` seconds and have a chat model; Ollama first, if both do."""
    import httpx2  # not needed by those who never ask

    async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout) as client:
        answers = await asyncio.gather(*(_ask(client, kind, host, timeout) for kind, host in hosts.items()))
    return [found for found in answers if found is not None]


async def _ask(client: httpx2.AsyncClient, kind: str, host: str, timeout: float) -> Detected | None:
    import httpx2

    path, listed, named = ("/api/tags", "models", "name") if kind == "ollama" else ("/v1/models", "data", "id")
    try:
        async with asyncio.timeout(timeout):
            body = await _get(client, host + path)
        entries = json.loads(body)[listed]
        names = [entry[named] for entry in entries if isinstance(entry, dict) and not _is_embedding(entry)]
    except (httpx2.HTTPError, TimeoutError, ValueError, KeyError, TypeError):
        return None
    models = tuple(name for name in names if isinstance(name, str) and _is_chat(name))
    return Detected(kind, f"{host}/v1", models) if models else None


async def _get(client: httpx2.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise ValueError("not the server we look for")
        body = b""
        async for block in response.aiter_bytes():
            body += block
            if len(body) > LONGEST_ANSWER:
                raise ValueError("longer than any list of models")
        return body


def _is_chat(name: str) -> bool:
    lower = name.lower()
    return bool(name) and not any(word in lower for word in NOT_FOR_CHAT) and not lower.endswith(REMOTE)


def _is_embedding(entry: Mapping[str, object]) -> bool:
    """Ollama says so in details.family ("bert", "nomic-bert") and, since 0.6, in capabilities."""
    details, capabilities = entry.get("details"), entry.get("capabilities")
    family = details.get("family") if isinstance(details, dict) else None
    if isinstance(capabilities, list) and capabilities:
        return "completion" not in capabilities
    return isinstance(family, str) and "bert" in family
