"""One attempt at a mail, whoever it is of: whether it may leave, and what is to be done after each way it can end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from server.mail.carrier import Carrier, DeferredError, Leaving, RefusedError, UnconfirmedError
from server.mail.message import Message

WAITS: Final = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600, 8 * 3600)
"""Seconds between attempts; all of them end within the day for which Resend knows a mail again."""
Ending = Literal["sent", "deferred", "failed", "unconfirmed", "kept"]


class OvertakenError(Exception):
    """Another attempt at the same mail has begun: this one must not go on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again``: when the next attempt begins, of one that is ``deferred``. ``not_on_its_way``: the mail certainly is
    not, so the next attempt may take any route."""

    ending: Ending
    detail: str | None = None
    provider_id: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    again: datetime | None = None
    not_on_its_way: bool = False

    @property
    def status(self) -> str:
        return "queued" if self.ending == "deferred" else self.ending


def kept_back(carrier: Carrier | None, route: str | None, since: datetime | None) -> Verdict | None:
    """The verdict on a mail that no attempt may be made at. ``route``, ``since``: how and when it may have left."""
    if route is not None and since is not None:
        repeats = carrier.repeats if carrier is not None and carrier.route == route else timedelta(0)
        if datetime.now(UTC) - since >= repeats:
            return Verdict("unconfirmed", f"it was handed over at {since:%Y-%m-%d %H:%M} UTC, and the answer was lost")
    return None if carrier is not None else Verdict("kept", not_on_its_way=True)


async def attempt(
    carrier: Carrier, make: Callable[[], Awaitable[Message]], leaving: Leaving, *, number: int, before: bool
) -> Verdict:
    """Make attempt ``number`` (from 1) at the mail that ``make`` makes. ``before``: an earlier one may have sent it.

    Raises :class:`OvertakenError` out of ``leaving``.
    """
    left = False

    async def noted() -> None:
        nonlocal left
        await leaving()
        left = True

    try:
        carried = await carrier.carry(await make(), noted)
    except RefusedError as error:
        return Verdict("unconfirmed" if before else "failed", str(error), not_on_its_way=not before)
    except UnconfirmedError as error:
        return Verdict("unconfirmed", str(error))
    except DeferredError as error:
        return put_off(error, number, perhaps=before or (error.perhaps and left))
    return Verdict("sent", provider_id=carried.provider_id, refused=carried.refused)


def put_off(error: DeferredError, number: int, *, perhaps: bool) -> Verdict:
    """The verdict on attempt ``number``, which may have sent the mail or not. The last one ends it."""
    if number > len(WAITS):
        words = f"given up after {number} attempts: {error}"
        return Verdict("unconfirmed" if perhaps else "failed", words, not_on_its_way=not perhaps)
    wait = max(WAITS[number - 1], error.after or 0.0)
    again = datetime.now(UTC) + timedelta(seconds=wait)
    return Verdict("deferred", str(error), again=again, not_on_its_way=not perhaps)
