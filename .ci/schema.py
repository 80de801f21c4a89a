"""What ``alembic check`` does, on an embedded PostgreSQL of its own: the migrations make exactly the tables of db/."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from alembic.util import CommandError

from db.embedded.cluster import EmbeddedPostgres
from migrations import runner


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="innkeeper-schema-") as folder:
        Path(folder).chmod(0o755)
        cluster = await EmbeddedPostgres.start(Path(folder) / "data", progress=lambda _line: None, fast_unsafe=True)
        try:
            print("migrated to", await runner.upgrade(cluster.owner_url))
            await runner.check(cluster.owner_url)
        except CommandError as error:
            sys.exit(str(error))
        finally:
            await cluster.stop()


if __name__ == "__main__":
    asyncio.run(main())
