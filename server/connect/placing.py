"""An entry for a server, put into a client and taken out: by the client's own program where it has one for it, else in
its file."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from server.connect import files, jsonc, toml_tables
from server.connect.clients import CLAUDE_CODE, Client, Computer, leads_to
from server.connect.faults import Malformed
from server.connect.files import Contents
from server.connect.ledger import Ledger, Record
from server.refusal import Refusal

PROGRAM_SECONDS: Final = 60
ADDED: Final = "added"
CHANGED: Final = "changed"
KEPT: Final = "already there"
TAKEN: Final = "taken out of"
THEIRS: Final = "leads to another address by now, so it is left as it is in"
GONE: Final = "was no more in"


class Placer:
    """Puts entries named ``name`` for ``house`` into clients of ``computer``."""

    def __init__(self, computer: Computer, ledger: Ledger, name: str) -> None:
        self._computer = computer
        self._ledger = ledger
        self._name = name

    def look(self, client: Client, entry: dict[str, Any]) -> None:
        """Raises :class:`Refusal` for a file that is better left alone, before anybody is asked to sign in."""
        self._there(client, entry)

    async def put(self, client: Client, house: str, entry: dict[str, Any]) -> str:
        """What was done. Raises :class:`Refusal`, with nothing changed, for a file that is better left alone."""
        path = client.file(self._computer)
        before, there, record = self._there(client, entry)
        if there is not None and (record is None or entry.items() <= there.items()):
            return KEPT
        gone = set() if record is None else record.entry.keys() - entry.keys()
        whole = {**{key: value for key, value in (there or {}).items() if key not in gone}, **entry}
        if record is None or there is None:
            made, folders = before.text is None, files.missing(before.real)
        else:
            made, folders = record.made, record.folders
        fresh = Record(client.id, self._name, str(path), house, entry, made=made, folders=folders)
        program = self._program(client)
        if program is not None:
            # Remembered first: whoever is interrupted can take it out.
            self._ledger.keep(fresh)
            await self._by_program(client, program, path, whole, there is not None)
        else:
            text, kept = _edited(client, path, before.text or "", fresh, record if there is not None else None, whole)
            self._ledger.keep(kept)
            files.write(before, text, backup=there is None)
        return ADDED if there is None else CHANGED

    def _there(self, client: Client, entry: dict[str, Any]) -> tuple[Contents, dict[str, Any] | None, Record | None]:
        """The file, what it has under the name, and what is remembered of that: ours, or one that does the same.
        What its owner has added to ours is theirs to keep."""
        path = client.file(self._computer)
        before = files.read(path)
        there = _get(client, path, before.text or "", self._name)
        record = self._ledger.find((client.id, self._name, str(path)))
        known = entry if record is None else record.entry
        if there is None or (isinstance(there, dict) and leads_to(there) == leads_to(known)):
            return before, there, record
        raise Refusal(f"{path} has another server named {self._name}: take it out, or choose another name with --name.")

    async def take(self, client: Client, record: Record) -> str:
        """Take out what ``record`` tells of, unless somebody has done so, or changed it into something else; which of
        these, as a sentence goes on before the name of the file."""
        path = Path(record.file)
        before = files.read(path)
        there = _get(client, path, before.text or "", record.name)
        ours = there is not None and isinstance(there, dict) and leads_to(there) == leads_to(record.entry)
        if ours:
            program = self._program(client) if record.mark is None and record.put_in is None else None
            if program is not None:
                await _run(program, "mcp", "remove", "--scope", "user", record.name)
            else:
                files.forget(before, *_without(client, path, before, record), folders=record.folders)
        self._ledger.drop(record)
        return TAKEN if ours else GONE if there is None else THEIRS

    def _program(self, client: Client) -> Path | None:
        """Claude Code writes its file all the time: what is put in is best put in by itself."""
        return self._computer.program("claude") if client is CLAUDE_CODE else None

    async def _by_program(
        self, client: Client, program: Path, path: Path, entry: dict[str, Any], replaced: bool
    ) -> None:
        if replaced:
            await _run(program, "mcp", "remove", "--scope", "user", self._name)
        said = await _run(program, "mcp", "add-json", "--scope", "user", self._name, "-", told=json.dumps(entry))
        if _get(client, path, files.read(path).text or "", self._name) != entry:
            raise Refusal(f"{client.title} did not take the server: {said[-300:]}")


def command(*arguments: str) -> list[str]:
    """This program as a client can start it. Python is kept from looking into the folder it is started in, which is
    that of anybody's project."""
    script = Path(sys.executable).with_name("innkeeper.exe" if sys.platform == "win32" else "innkeeper")
    program = [str(script)] if script.exists() else [sys.executable, "-P", "-m", "server.cli"]
    return [*program, *arguments]


def typed() -> str:
    """This program as somebody types it in the folder they are in: by its name alone only where that finds it."""
    path, *rest = command()
    named = shutil.which("innkeeper")
    if not rest and named and Path(named).samefile(path):
        return "innkeeper"
    here = Path.cwd()
    return shlex.join([str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path, *rest])


def helper(house: str) -> str:
    """The command line by which a client gets its headers."""
    words = command("token", "--headers", house)
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def _get(client: Client, path: Path, text: str, name: str) -> Any:
    try:
        return jsonc.get(text, (client.servers, name)) if client.form == "json" else toml_tables.get(text, name)
    except Malformed as fault:
        raise _left_alone(path, fault) from None


def _edited(
    client: Client, path: Path, text: str, fresh: Record, replaced: Record | None, whole: dict[str, Any]
) -> tuple[str, Record]:
    """``whole``: the entry, with what its owner has added to it."""
    try:
        if client.form == "toml":
            if replaced is not None:
                if whole.keys() - fresh.entry.keys():
                    raise Malformed(
                        f"{fresh.name} has settings of yours: write {json.dumps(leads_to(fresh.entry))} there."
                    )
                text = toml_tables.remove(text, fresh.name, replaced.put_in)
            text, put_in = toml_tables.add(text, fresh.name, fresh.entry)
            return text, replace(fresh, put_in=put_in)
        place = (client.servers, fresh.name)
        if replaced is not None:
            return jsonc.replace(text, place, whole), replace(fresh, mark=replaced.mark)
        text, mark = jsonc.add(text, place, fresh.entry)
        return text, replace(fresh, mark=mark)
    except Malformed as fault:
        raise _left_alone(path, fault) from None


def _without(client: Client, path: Path, before: Contents, record: Record) -> tuple[str, bool]:
    """The text that is left, and whether the file goes with the entry."""
    text = before.text or ""
    try:
        if client.form == "toml":
            text = toml_tables.remove(text, record.name, record.put_in)
        else:
            text = jsonc.remove(text, (client.servers, record.name), record.mark)
    except Malformed as fault:
        raise _left_alone(path, fault) from None
    return text, record.made and not text


def _left_alone(path: Path, fault: Malformed) -> Refusal:
    return Refusal(f"{path} is left alone, it cannot be edited safely. {fault}")


async def _run(program: Path, *arguments: str, told: str = "") -> str:
    """What the program prints. Raises :class:`Refusal` when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise Refusal(f"{program} does not run ({error.strerror}).") from None
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            said, _ = await process.communicate(told.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Refusal(f"{program} does not answer: try again.") from None
    if process.returncode:
        raise Refusal(f"{program} {' '.join(arguments[:2])} failed: {said.decode(errors='replace').strip()[-300:]}")
    return said.decode(errors="replace").strip()
