"""Versions of components: Semantic Versioning 2.0.0, how they sort in the database, and how a range of them is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import semver
from pydantic import AfterValidator, Field

LATEST: Final = "latest"
LONGEST: Final = 64
_DIGITS: Final = 16
_LAST: Final = "~"
"""Behind every precedence, and behind the one of a release in particular."""
_RANGE: Final = re.compile(r"(?P<kind>[\^~]?)(?P<parts>\d{1,15}(?:\.(?:\d{1,15}|[x*]))?(?:\.(?:\d{1,15}|[x*]))?)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which version is asked for: ``exact`` one, which may be yanked, else the newest from ``low`` to below ``high``
    (precedences) that is not; releases before pre-releases, which count only with ``prereleases``."""

    exact: str | None
    low: str = ""
    high: str = _LAST
    prereleases: bool = False


def parsed(text: str) -> semver.Version:
    """Raises ``ValueError`` for what is no version, or one too long to keep."""
    if len(text) > LONGEST:
        raise ValueError(f"must be at most {LONGEST} characters")
    try:
        version = semver.Version.parse(text)
    except ValueError:
        raise ValueError("must be a semantic version, such as 1.4.0 or 2.0.0-beta.1") from None
    if version.build:
        raise ValueError("must have no build metadata (+...), which tells no versions apart")
    if max(version.major, version.minor, version.patch) >= 10 ** (_DIGITS - 1):
        raise ValueError("has a number that is too large")
    return version


def precedence(version: semver.Version) -> str:
    """A text that sorts, byte by byte, as versions do (SemVer 11)."""
    release = "".join(str(number).zfill(_DIGITS) for number in version.to_tuple()[:3])
    if not version.prerelease:
        return release + _LAST
    return release + "-" + "".join(_identifier(one) for one in version.prerelease.split("."))


def _identifier(one: str) -> str:
    """Numbers before words, and both before nothing more: a shorter list of identifiers comes first."""
    return f"!{len(one):02}{one}" if one.isdigit() else f'"{one} '


def wanted(text: str) -> Wanted:
    """What ``latest``, a version, or a range (``1``, ``1.2``, ``1.x``, ``^1.2.3``, ``~1.2``) asks for. Raises
    ``ValueError`` for anything else."""
    if text == LATEST:
        return Wanted(None, prereleases=True)
    try:
        return Wanted(str(parsed(text)))
    except ValueError:
        pass
    if text[:1] in ("^", "~"):
        try:
            base = parsed(text[1:])
        except ValueError:
            pass
        else:
            return _between(base, _above(text[0], base.major, base.minor, base.patch))
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError("must be latest, a version such as 1.4.0, or a range such as 1.x, ^1.4.0 or ~1.4.0")
    numbers = [int(one) for one in re.split(r"\.[x*]", found["parts"])[0].split(".")]
    kind = "~" if found["kind"] == "~" or (len(numbers) == 2 and not found["kind"]) else "^"
    major, minor, patch = [*numbers, 0, 0][:3]
    if len(numbers) == 1:
        return _between(semver.Version(major), (major + 1, 0, 0))
    return _between(semver.Version(major, minor, patch), _above(kind, major, minor, patch, known=len(numbers)))


def _above(kind: str, major: int, minor: int, patch: int, known: int = 3) -> tuple[int, int, int]:
    """Where a range ends: ``~`` keeps major and minor, ``^`` the leftmost number that is not zero."""
    if kind == "~" or (major == 0 and (minor > 0 or known == 2)):
        return major, minor + 1, 0
    return (major + 1, 0, 0) if major else (0, 0, patch + 1)


def _between(base: semver.Version, end: tuple[int, int, int]) -> Wanted:
    high = "".join(str(number).zfill(_DIGITS) for number in end)
    return Wanted(None, precedence(base), high, prereleases=bool(base.prerelease))


def _version(text: str) -> str:
    return str(parsed(text))


def _wanted(text: str) -> str:
    wanted(text)
    return text


Version: TypeAlias = Annotated[str, AfterValidator(_version)]
WantedVersion: TypeAlias = Annotated[str, Field(description="1.4.0, ^1.4, 1.x."), AfterValidator(_wanted)]
