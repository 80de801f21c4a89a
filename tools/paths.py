"""What a file may be called: a path of names, as people write it, that no store and no disk reads differently."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field

LONGEST: Final = 512
"""Bytes of a path."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def _path(path: str) -> str:
    path = unicodedata.normalize("NFC", path)
    if len(path.encode("utf-8", "surrogatepass")) > LONGEST:
        raise ValueError(f"must be at most {LONGEST} bytes long")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("must be names joined by single slashes, without '.' or '..', such as reports/may.pdf")
    return _characters(path)


def _characters(text: str) -> str:
    if any(unicodedata.category(one) in ("Cc", "Cs") or ord(one) & 0xFFFE == 0xFFFE for one in text):
        raise ValueError("must not contain control characters")
    return text


def _prefix(prefix: str) -> str:
    return _characters(unicodedata.normalize("NFC", prefix))


Path: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST, description="Such as reports/may.pdf."),
    AfterValidator(_path),
]
Prefix: TypeAlias = Annotated[str, Field(max_length=LONGEST, description="Its start."), AfterValidator(_prefix)]


def file_name(path: str) -> str:
    """The last name of a path in letters that every header, address and disk reads alike, and no model as words."""
    name = path.rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem:
        stem, dot, ending = name, "", ""
    ending = _UNSAFE.sub("", ending)[:12]
    return f"{_UNSAFE.sub('_', stem).strip('._')[:48] or 'file'}{'.' if ending else ''}{ending}"
