"""``python -m tests.killing.house_process``: houses in processes forked from one that has imported everything.

Each line on stdin is an :class:`Order` as JSON and starts a house; what these do is told on stdout, a JSON object a
line: ``ready`` with its ``url`` and ``pid``, ``reached`` a point, ``ended`` with its exit code. SIGUSR1 lets a house go
on from its points. All of them die with this process, and this process with its stdin.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from agents import kit, leases, patience
from agents.engine import RunEngine
from agents.models import ModelFactory
from server import services
from server.data_directory import DatabaseUrls
from server.jobs import worker as _worker  # noqa: F401  loaded before the forks
from server.keyring import Keyring
from server.listening import bind, url_of
from server.process import Stop, run
from server.running import run_house
from server.settings.loading import load
from tests.killing.defects import DEFECTS
from tests.killing.points import Point, Points, lay
from tests.serving import ROOT_SECRET, scripted

PR_SET_PDEATHSIG: Final = 1
PATIENCE_SECONDS: Final = 90.0
"""A slow machine keeps a run from its database for longer than a run usually puts up with."""
PUBLIC_URL: Final = "https://inn.example.com"
"""The same for all, as behind one load balancer: mails have it in them."""


@dataclass(frozen=True)
class Order:
    """One house. ``lease``: of its runs in seconds, renewed three times in that time; ``look``: how often it looks for
    what others left."""

    number: int
    app: str
    ops: str
    model: str
    work: bool = False
    files: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    lease: float | None = None
    look: float | None = None
    points: tuple[Point, ...] = ()
    defects: tuple[str, ...] = ()

    @classmethod
    def read(cls, line: bytes) -> Order:
        value = json.loads(line)
        return cls(**{**value, "points": tuple(Point(**point) for point in value["points"])})


def tell(**what: Any) -> None:
    """One write, which no other process's can come into."""
    os.write(1, json.dumps(what).encode() + b"\n")


def live(order: Order) -> int:
    """Be that house until a signal."""
    if order.lease is not None:
        lay(leases, "RENEW_SECONDS", order.lease / 3)
        lay(leases, "LOOK_SECONDS", order.look or order.lease / 6)
        # Who waits that long is not what is looked for here.
        lay(patience, "PATIENCE_SECONDS", PATIENCE_SECONDS)
        lay(services, "RunEngine", partial(RunEngine, lease=timedelta(seconds=order.lease)))
    bound = bind("127.0.0.1", 0)
    return run(lambda stop: serve(order, bound, stop))


async def serve(order: Order, bound: socket.socket, stop: Stop) -> int:
    points = Points(order.points, partial(tell, number=order.number))
    points.lay()
    for defect in order.defects:
        DEFECTS[defect]()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, points.released.set)
    url = url_of(bound)
    await run_house(
        load({"INNKEEPER_DRAIN_SECONDS": "10", **order.settings}, environment="development"),
        DatabaseUrls(order.app, order.ops),
        scripted(order.model),
        keyring=Keyring(ROOT_SECRET.encode()),
        public_url=PUBLIC_URL,
        files=Path(order.files) if order.files else None,
        bound=bound,
        stop=stop,
        announce=lambda: tell(number=order.number, ready=url, pid=os.getpid()),
        work=order.work,
    )
    return 0


class Street:
    """The houses of this process, and when they end."""

    def __init__(self) -> None:
        self._houses: dict[int, int] = {}

    def open(self, order: Order) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._houses[pid] = order.number
            return
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.close(0)
            if os.getppid() == parent:
                code = live(order)
        finally:
            os._exit(code)

    def bury(self) -> None:
        while self._houses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            tell(number=self._houses.pop(pid), ended=os.waitstatus_to_exitcode(status))

    def close(self) -> None:
        for pid in self._houses:
            os.kill(pid, signal.SIGKILL)


async def rehearse() -> None:
    """Do once what every house would have to do once: import what runs need, and let a first one go through it."""

    async def no_files(url: str, most: int) -> bytes:
        raise FileNotFoundError(url, most)

    factory = ModelFactory(default=scripted("http://127.0.0.1:1/v1").default)
    nothing: Any = None
    await factory.warm()
    await asyncio.to_thread(kit.load, factory, nothing, no_files, nothing, nothing, nothing)
    await factory.aclose()


def main() -> None:
    asyncio.run(rehearse())
    gc.freeze()
    street = Street()
    dead, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(dead, selectors.EVENT_READ)
    tell(started=True)
    waiting = b""
    while True:
        for key, _events in selector.select():
            if key.fileobj is dead:
                dead.recv(1024)
                street.bury()
                continue
            data = os.read(0, 1 << 16)
            if not data:
                street.close()
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                street.open(Order.read(line))


if __name__ == "__main__":
    main()
