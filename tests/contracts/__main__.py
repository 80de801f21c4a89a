"""``python -m tests.contracts write`` accepts what tools are now: snapshots here, and token counts."""

from __future__ import annotations

import sys

from tests.contracts.snapshots import ROOT, files, stale


def main(arguments: list[str]) -> None:
    if arguments != ["write"]:
        sys.exit(__doc__)
    wanted = files()
    for name in stale():
        path = ROOT / name
        if name in wanted:
            path.write_text(wanted[name], encoding="utf-8")
            print(f"wrote {name}")
        else:
            path.unlink()
            print(f"removed {name}")


main(sys.argv[1:])
