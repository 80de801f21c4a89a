"""``python -m migrations upgrade|check`` and ``python -m migrations revise 0007 "what it does"``.

The owner's URL comes from ``DATABASE_OWNER_URL``, never from the command line, where other users could read it.
"""

from __future__ import annotations

import asyncio
import os
import sys

from migrations import runner

_USAGE = "usage: DATABASE_OWNER_URL=... python -m migrations upgrade | check | revise REVISION MESSAGE"


def main(arguments: list[str]) -> None:
    url = os.environ.get("DATABASE_OWNER_URL")
    match arguments:
        case ["upgrade"] if url:
            sys.stdout.write(asyncio.run(runner.upgrade(url)) + "\n")
        case ["check"] if url:
            asyncio.run(runner.check(url))
        case ["revise", revision, message] if url:
            asyncio.run(runner.revise(url, revision, message))
        case _:
            sys.exit(_USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
