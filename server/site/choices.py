"""What a person lets an application do: which scopes, in which projects, and whether it may change anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import projects
from db.database import Database
from db.errors import invalid
from db.oauth.grants import Consent
from db.principal import Principal
from db.scopes import READ_SCOPES
from server.oauth.scopes import in_order, words
from server.site.session import Form

if TYPE_CHECKING:
    import asyncpg

MOST_PROJECTS: Final = 200


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose. ``before``: what the person chose last; then only ``new`` scopes are asked for."""

    new: tuple[str, ...]
    kept: tuple[str, ...]
    projects: tuple[asyncpg.Record, ...]
    before: Consent | None

    @property
    def new_words(self) -> dict[str, str]:
        return {scope: words(scope) for scope in self.new}

    @property
    def kept_words(self) -> list[str]:
        return [words(scope) for scope in self.kept]

    @property
    def shared_names(self) -> frozenset[str]:
        """Names that more than one project has, so that ids must tell them apart."""
        counts = Counter(row["name"] for row in self.projects)
        return frozenset(name for name, count in counts.items() if count > 1)

    @property
    def names_before(self) -> list[str]:
        """The projects chosen before that are still the person's."""
        chosen = () if self.before is None else self.before.project_ids or ()
        return [row["name"] for row in self.projects if row["id"] in chosen]


async def offer(database: Database, person: Principal, asked: tuple[str, ...] | None, before: Consent | None) -> Offer:
    wanted = in_order(person.scopes if asked is None else person.scopes & frozenset(asked))
    known = frozenset() if before is None else frozenset(before.scopes)
    async with database.transaction(person, read_only=True) as connection:
        found = await projects.page(connection, person.user_id, only=None, before=None, limit=MOST_PROJECTS)
    return Offer(
        new=tuple(scope for scope in wanted if scope not in known),
        kept=tuple(scope for scope in wanted if scope in known),
        projects=tuple(found),
        before=before,
    )


def chosen(offer: Offer, form: Form) -> Consent:
    """What the form says of ``offer``. Raises ``AppError`` when nothing would be allowed."""
    ticked = frozenset(form.several("scope"))
    scopes = (*offer.kept, *(scope for scope in offer.new if scope in ticked))
    consent = Consent(tuple(in_order(scopes)), _projects(offer, form), form.get("read_only") == "1")
    if not effective(consent).scopes:
        raise invalid(
            "Nothing is allowed this way.", "Choose something to allow, or do not allow it at all.", "nothing_chosen"
        )
    return consent


def effective(consent: Consent) -> Consent:
    """What the client really gets: read-only beats everything."""
    if not consent.read_only:
        return consent
    return Consent(tuple(scope for scope in consent.scopes if scope in READ_SCOPES), consent.project_ids, True)


def asked_for(consent: Consent, asked: tuple[str, ...] | None) -> Consent:
    """The part of ``consent`` that a request asks for."""
    scopes = consent.scopes if asked is None else tuple(scope for scope in consent.scopes if scope in asked)
    return Consent(scopes, consent.project_ids, consent.read_only)


def together(before: Consent | None, now: Consent) -> Consent:
    """What is remembered: the scopes of both, the rest as it is now."""
    scopes = {*now.scopes, *(() if before is None else before.scopes)}
    return Consent(tuple(in_order(scopes)), now.project_ids, now.read_only)


def _projects(offer: Offer, form: Form) -> tuple[UUID, ...] | None:
    if offer.before is not None:
        return offer.before.project_ids
    ticked = frozenset(form.several("project"))
    if form.get("projects") == "all":
        if ticked:
            raise invalid(
                "Single projects are ticked, but all of them are chosen.",
                "Choose 'Only these', or take the ticks away.",
                "choice_unclear",
            )
        return None
    found = tuple(row["id"] for row in offer.projects if str(row["id"]) in ticked)
    if not found:
        raise invalid("No project is chosen.", "Choose at least one, or all of them.", "nothing_chosen")
    return found
