"""A server for one measurement, alone in its process: ``python -m tests.server.stream_server`` prints its port.

Its one tool says that it has begun, and then nothing more for as long as its reader stays.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import uvicorn
import uvloop
from pydantic import BaseModel

from db.scopes import Scope
from tests.server.edge_services import EdgeServices, NoDatabase, edge_app
from tools.catalog import Catalog
from tools.contract import Caller, tool
from tools.dispatch import Dispatch
from tools.ports import NoRuns, Services

if TYPE_CHECKING:
    from db.database import Database


class Told(BaseModel):
    told: str


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True)
async def wait(call: Caller) -> Told:
    """Wait."""
    await call.progress(1)
    await asyncio.Event().wait()
    return Told(told="never")


async def main() -> None:
    catalog = Catalog([wait])
    dispatch = Dispatch(Services(cast("Database", NoDatabase()), NoRuns()), catalog)
    app = edge_app(EdgeServices(catalog, dispatch))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print(bound.getsockname()[1], flush=True)
        config = uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False)
        await uvicorn.Server(config).serve(sockets=[bound])


if __name__ == "__main__":
    uvloop.run(main())
