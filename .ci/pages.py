"""The pages that are made from the code: ``.ci/pages.py write`` writes those that are stale.

In README.md the table of tools stands between ``<!-- tools -->`` and ``<!-- /tools -->``. docs/promises.md is not here:
it needs the tests, see `.ci/promises.py`.
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

from server.jobs import page as jobs
from server.settings.table import markdown
from tools import reference

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(?<=<!-- tools -->\n).*?(?=<!-- /tools -->)", re.DOTALL)


def pages() -> dict[str, str]:
    """File -> what it should be."""
    found = {"docs/settings.md": markdown().rstrip("\n") + "\n", "docs/tools.md": reference.page()}
    found |= {f"docs/tools/{family}.md": text for family, text in reference.family_pages().items()}
    found["docs/jobs.md"] = jobs.markdown()
    found["docs/errors.md"] = runpy.run_path(str(ROOT / ".ci/errors.py"))["page"](ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = f"{reference.table()}\n"
    found["README.md"] = TABLE.sub(lambda _found: table, readme)
    return found


def stale() -> list[str]:
    return [name for name, text in pages().items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]


def main(arguments: list[str]) -> None:
    if arguments != ["write"]:
        sys.exit(__doc__)
    for name in stale():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(pages()[name], encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
