"""The guarded client for tests whose "internet" is this machine."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from server.integrations.addresses import PRIVATE, Addresses
from server.integrations.guarded_http import Outgoing

PUBLIC_HOST = "127.0.0.2"
"""Stands for an address of the internet; 127.0.0.1 stays one that nobody may reach."""


def reaching_loopback() -> Outgoing:
    """As with INNKEEPER_ALLOW_PRIVATE_URLS=true."""
    return Outgoing(Addresses(PRIVATE))


class Names:
    """A resolver whose answers a test decides; the last of a name stays. ``asked``: what it was asked, in order."""

    def __init__(self, answers: Mapping[str, Sequence[list[str]]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("no such name")
        queue = self._answers[host]
        return queue.pop(0) if len(queue) > 1 else queue[0]


def internet(answers: Mapping[str, Sequence[list[str]]] | None = None, trust: ssl.SSLContext | None = None) -> Outgoing:
    """Reaches 127.0.0.2 as if it were public, and nothing else that is not."""
    names = Names(answers or {"public.example": [[PUBLIC_HOST]], "other.example": [[PUBLIC_HOST]]})
    return Outgoing(Addresses([ip_network(f"{PUBLIC_HOST}/32")]), resolve=names, trust=trust)
