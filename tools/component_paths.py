"""Where the files of an item may be, and which packages it may name: nothing that leaves the project it is added to.

Paths are read as the shadcn CLI reads them (its isSafeTarget), so that it refuses nothing we have published.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote

LONGEST: Final = 512
ALIASES: Final = ("~/", "@ui/", "@components/", "@lib/", "@hooks/")
"""What a target may begin with: the root of a project, and the folders its components.json names."""
_CATCH_ALL: Final = re.compile(r"\[\.\.\.[^\]/]*\]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_PACKAGE: Final = re.compile(r"(?:@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*")
_PACKAGE_RANGE: Final = re.compile(r"[\^~<>=]{0,2}\s?[0-9A-Za-z*][0-9A-Za-z.*+~^<>=|\s-]*")
LONGEST_PACKAGE: Final = 214
RESERVED: Final = frozenset({"node_modules", "favicon.ico"})


def path_fault(path: str) -> str | None:
    """What is wrong with the path of a file; ``None`` when nothing is."""
    if len(path.encode("utf-8", "surrogatepass")) > LONGEST:
        return f"must be at most {LONGEST} bytes long"
    decoded = path
    while decoded != (further := unquote(decoded)):
        decoded = further
    if any(unicodedata.category(one) in ("Cc", "Cs") for one in decoded):
        return "must not contain control characters"
    if "\\" in decoded:
        return "must use / between its names"
    if decoded.startswith("/") or _DRIVE.match(decoded):
        return "must be relative, such as components/card.tsx"
    parts = decoded.split("/")
    if any(part in ("", ".") for part in parts):
        return "must be names joined by single slashes"
    if any(".." in _CATCH_ALL.sub("", part) for part in parts):
        return "must not leave its folder: no '..' in it"
    return None


def target_fault(target: str) -> str | None:
    """As :func:`path_fault`, for where a file goes."""
    alias = next((one for one in ALIASES if target.startswith(one)), "")
    return path_fault(target.removeprefix(alias))


def package_fault(dependency: str) -> str | None:
    """What is wrong with ``name`` or ``name@range`` of an npm package. Addresses, folders and options are refused:
    whoever adds the item runs ``npm install`` with it."""
    name, _, wanted = dependency.partition("@") if not dependency.startswith("@") else _scoped(dependency)
    if not _PACKAGE.fullmatch(name) or len(name) > LONGEST_PACKAGE or name in RESERVED:
        return "must be the name of an npm package, such as clsx, clsx@^2.1.0 or @radix-ui/react-dialog"
    if "@" in dependency[1:] and not _PACKAGE_RANGE.fullmatch(wanted):
        return "must have a version or range behind the name, such as ^2.1.0: no address, file or alias"
    return None


def _scoped(dependency: str) -> tuple[str, str, str]:
    name, at, wanted = dependency[1:].partition("@")
    return f"@{name}", at, wanted
