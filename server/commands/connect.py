"""``innkeeper connect``: put this server into the clients of this computer, signed in and proven; or take it out."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from server.connect import links, signing_in, toml_tables, verifying
from server.connect.clients import ASKS_ITSELF, CLIENTS, Client, Computer, Transport, client_named
from server.connect.ledger import Ledger, Record
from server.connect.placing import CHANGED, KEPT, Placer, command, helper
from server.connect.signing_in import TokenFile, Tokens
from server.refusal import Refusal
from server.terminal import note, put


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    computer = Computer.here()
    chosen = client_named(arguments.client)
    if arguments.remove:
        return await _remove(arguments, computer, chosen)
    house = signing_in.address(arguments.url or _running(arguments, computer))
    mcp_url = narrowed(house, arguments, urlsplit(arguments.url or "").query)
    if arguments.client and chosen is None:
        note(f"'{arguments.client}' is not known here: this is for clients of any kind.")
    if arguments.print or (arguments.client and chosen is None):
        put(printed(mcp_url, arguments.name, chosen, arguments.transport))
        if chosen is not None:
            note(f"This is for {chosen.file(computer)}. {_by_hand(chosen, house, arguments.transport)}")
        return 0
    clients = [chosen] if chosen else _agreed(_found(computer), arguments)
    if not clients:
        note("No client was found on this computer. For any other, or one elsewhere:")
        put(printed(mcp_url, arguments.name, None))
        return 0
    return await _connect(arguments, computer, house, mcp_url, clients)


async def _connect(
    arguments: Namespace, computer: Computer, house: str, mcp_url: str, clients: Sequence[Client]
) -> int:
    ledger = Ledger.open(computer.own)
    placer = Placer(computer, ledger, arguments.name)
    faults = _Faults(len(clients))
    fit = []
    for client in clients:
        with faults.told(client):
            placer.look(client, _entry(client, house, mcp_url, arguments.transport))
            if client.found(computer) is None:
                note(f"{client.title} is not to be seen on this computer: its file is written all the same.")
            fit.append(client)
    if fit:
        tokens = await _signed_in(ledger, TokenFile.usual(computer.home), house, mcp_url)
        proof = await verifying.verify(mcp_url, tokens["access_token"])
        called = f", and {proof.called} answered" if proof.called else ""
        note(f"{mcp_url} is {proof.server} (MCP {proof.protocol}): {proof.tools} tools{called}.")
    for client in fit:
        with faults.told(client), ledger.alone():
            done = await placer.put(client, house, _entry(client, house, mcp_url, arguments.transport))
            note(f"{client.title}: {done} in {client.file(computer)} as {arguments.name}.")
            if done != KEPT:
                note(f"  {client.signs_in(arguments.transport)}" + _restart(done))
    faults.over("could not be configured")
    note(f"Take it out again with: innkeeper connect --remove --name {arguments.name}")
    return 0


class _Faults:
    """Clients that could not be served, each told at once, so that the others still are."""

    def __init__(self, all_of: int) -> None:
        self._all_of = all_of
        self._count = 0

    @contextmanager
    def told(self, client: Client) -> Iterator[None]:
        try:
            yield
        except Refusal as refusal:
            note(f"{client.title}: {refusal}")
            self._count += 1

    def over(self, what: str) -> None:
        """Raises :class:`Refusal` if there were any."""
        if self._count:
            raise Refusal(f"{self._count} of {self._all_of} clients {what}.")


async def _signed_in(ledger: Ledger, file: TokenFile, house: str, mcp_url: str) -> Tokens:
    """The tokens of an earlier sign-in while they are good, else those of a new one, which is then ours to revoke."""
    async with signing_in.client() as http:
        tokens = await signing_in.fresh(http, file, house)
        if tokens is not None and not await _accepted(http, mcp_url, tokens):
            tokens = await signing_in.fresh(http, file, house, force=True)
        if tokens is None:
            tokens = await signing_in.sign_in(http, house)
            with ledger.alone():
                ledger.signed_in.add(house)
                ledger.save()
            file.put(house, tokens)
            note(f"Signed in to {house}. The tokens are in {file.path}, which only you can read.")
    return tokens


async def _accepted(http: signing_in.Http, mcp_url: str, tokens: Tokens) -> bool:
    """Whether the access token counts: it may have been revoked long before its end."""
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {
        "Authorization": f"Bearer {tokens['access_token']}",
        "Accept": "application/json, text/event-stream",
    }
    try:
        return (await http.post(mcp_url, json=ping, headers=headers)).status_code != 401
    except signing_in.HttpFault as error:
        raise Refusal(f"{mcp_url} does not answer ({type(error).__name__}).") from None


async def _remove(arguments: Namespace, computer: Computer, chosen: Client | None) -> int:
    ledger = Ledger.open(computer.own)
    by_id = {client.id: client for client in CLIENTS}
    meant = [record for record in ledger.records if _is_meant(record, arguments, chosen)]
    if not meant:
        note("Nothing that 'innkeeper connect' has put in is there.")
    faults = _Faults(len(meant))
    for record in meant:
        client = by_id[record.client]
        with faults.told(client), ledger.alone():
            said = await Placer(computer, ledger, record.name).take(client, record)
            note(f"{client.title}: {record.name} {said} {record.file}.")
    used = {record.house for record in ledger.records}
    for house in sorted(ledger.signed_in - used):
        await _sign_out(ledger, TokenFile.usual(computer.home), house)
    faults.over("still have it")
    return 0


async def _sign_out(ledger: Ledger, file: TokenFile, house: str) -> None:
    tokens = file.get(house)
    if tokens is not None:
        async with signing_in.client() as http:
            if not await signing_in.revoke(http, house, tokens):
                note(f"{house} could not be told to forget the sign-in: disconnect it there, under /apps.")
        file.drop(house)
        note(f"Signed out of {house}.")
    with ledger.alone():
        ledger.signed_in.discard(house)
        ledger.save()


def _is_meant(record: Record, arguments: Namespace, chosen: Client | None) -> bool:
    return (
        (arguments.client is None or (chosen is not None and chosen.id == record.client))
        and arguments.name == record.name
        and (arguments.url is None or signing_in.address(arguments.url) == record.house)
    )


def narrowed(house: str, arguments: Namespace, given: str = "") -> str:
    """The endpoint with what the connection is narrowed to: by the query that was ``given``, and by options over it."""
    query = {
        **dict(parse_qsl(given)),
        **({"project": str(arguments.project)} if arguments.project else {}),
        **({"read_only": "1"} if arguments.read_only else {}),
        **({"tools": ",".join(arguments.tools)} if arguments.tools else {}),
    }
    return house + signing_in.ENDPOINT + (f"?{urlencode(query, safe=',')}" if query else "")


def printed(mcp_url: str, name: str, client: Client | None, transport: Transport | None = None) -> str:
    """What to put into a client by hand; without a ``client``, into any."""
    if client is not None:
        stdio = (transport or client.transport) == "stdio"
        entry = client.started(command("stdio", mcp_url)) if stdio else client.entry(mcp_url)
        if client.form == "toml":
            return toml_tables.add("", name, entry)[0].rstrip()
        return json.dumps({client.servers: {name: entry}}, indent=2)
    words = command("stdio", mcp_url)
    entries = {"type": "http", "url": mcp_url}, {"command": words[0], "args": words[1:]}
    by_url, by_program = (json.dumps({"mcpServers": {name: entry}}, indent=2) for entry in entries)
    lines = [
        f"URL     {mcp_url}",
        "Header  Authorization: Bearer TOKEN   (only for clients that do not sign in by themselves;",
        "        a key of 'innkeeper keys create', or what 'innkeeper token' prints)",
        "",
        by_url,
        "",
        f"For a client that only starts programs, signed in by 'innkeeper login {signing_in.address(mcp_url)}':",
        "",
        by_program,
        "",
        *(way.command or f"{way.client}: {way.href}" for way in links.installs(mcp_url, name)),
    ]
    return "\n".join(lines)


def _entry(client: Client, house: str, mcp_url: str, transport: Transport | None) -> dict[str, Any]:
    if (transport or client.transport) == "stdio":
        return client.started(command("stdio", mcp_url))
    entry = client.entry(mcp_url)
    return {**entry, client.helper: helper(house)} if client.helper else entry


def _by_hand(client: Client, house: str, transport: Transport | None) -> str:
    """How a client is signed in whose entry somebody puts in themselves."""
    if (transport or client.transport) == "stdio":
        return f"It needs you to be signed in: innkeeper login {house}"
    return ASKS_ITSELF


def _restart(done: str) -> str:
    return " Restart it, so that it reads its file again." if done == CHANGED else ""


def _found(computer: Computer) -> list[Client]:
    found = [(client, sign) for client in CLIENTS if (sign := client.found(computer)) is not None]
    for client, sign in found:
        note(f"Found {client.title} ({sign}); its servers are in {client.file(computer)}.")
    return [client for client, _ in found]


def _agreed(clients: list[Client], arguments: Namespace) -> list[Client]:
    """All of them, when the person says so: by ``--yes``, or on a terminal."""
    if not clients or arguments.yes:
        return clients
    if not sys.stdin.isatty():
        raise Refusal("Say --yes to connect these, or name one: " + ", ".join(client.id for client in clients) + ".")
    sys.stderr.write("Connect these? [Y/n] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise Refusal("Nothing was changed.")
    return clients


def _running(arguments: Namespace, computer: Computer) -> str:
    """The address of the setting, of the ``up`` that runs here, or of the one house that somebody is signed in to."""
    from server.data_directory import data_directory

    named = os.environ.get("INNKEEPER_DATA")
    data = data_directory(arguments.data or (Path(named) if named else None), os.environ)
    known = [os.environ.get("INNKEEPER_PUBLIC_URL") or data.running_address()]
    found = [url for url in known if url] or TokenFile.usual(computer.home).urls()
    if len(found) != 1:
        raise Refusal("Which Innkeeper? Name its address with --url, or start 'innkeeper up'.")
    return found[0]
