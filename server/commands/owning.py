"""What the commands share whose actions work on the connection of the database's owner."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from server.commands.reading import read_settings
from server.owner import owner_connection
from server.terminal import progress

if TYPE_CHECKING:
    from server.roles import Connection

Actions: TypeAlias = "Mapping[str, Callable[[Connection, Namespace], Awaitable[None]]]"


async def act(actions: Actions, arguments: Namespace) -> int:
    """Carry out the action that was asked for, and give the exit code. Raises :class:`server.refusal.Refusal`."""
    settings = read_settings(environment="development")
    async with owner_connection(settings, arguments.data, progress()) as connection:
        await actions[arguments.action](connection, arguments)
    return 0
