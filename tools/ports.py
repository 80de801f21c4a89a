"""What tools need from the rest of the house, as small protocols that ``server`` fills; the way outside, the store and
the limits in modules of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from db.database import Database
from db.errors import AppError
from db.principal import Principal
from tools.limits import NO_LIMITS, Limits
from tools.outside import NOTHING_OUTSIDE, Outside
from tools.store import NO_STORE, Store

if TYPE_CHECKING:
    from db.database import Connection


class Errand(Protocol):
    """A run as a tool asks for it. ``message``: what the user says; ``thread``: the client's own name of the thread,
    which gets the id ``new_thread_id`` if there is none yet."""

    @property
    def agent(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def thread(self) -> str: ...

    @property
    def new_thread_id(self) -> UUID: ...

    @property
    def on_busy(self) -> Literal["reject", "enqueue", "interrupt"]: ...


Heard: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]
"""Hears how far a run has come: its events so far, ``None``, and what it does."""


class Runs(Protocol):
    """The part of the run engine that tools reach."""

    async def begin(
        self, connection: Connection, principal: Principal, project_id: UUID, errand: Errand
    ) -> tuple[UUID, UUID]:
        """Begin a run within a transaction of the caller, and give its id and its thread's. It lives as soon as that
        has committed. Raises ``AppError`` for what keeps it from existing."""
        ...

    async def watch(
        self, principal: Principal, project_id: UUID, run_id: UUID, seconds: float, progress: Heard | None = None
    ) -> str:
        """Wait for the end of a run, for ``seconds`` at most; the text that its agent has said so far."""
        ...

    async def cancel(self, principal: Principal, project_id: UUID, run_id: UUID) -> bool:
        """Ask for the end of a run, wherever it lives; false when the caller has no such live run."""
        ...

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """Ask every live run of the project to stop, on every process. Returns once asked, not once stopped."""
        ...


class NoRuns:
    """For a process in which no run can be started."""

    async def begin(
        self, connection: Connection, principal: Principal, project_id: UUID, errand: Errand
    ) -> tuple[UUID, UUID]:
        raise AppError("runs_not_configured", 503, "This process starts no runs.", "Ask who runs it.")

    async def watch(
        self, principal: Principal, project_id: UUID, run_id: UUID, seconds: float, progress: Heard | None = None
    ) -> str:
        return ""

    async def cancel(self, principal: Principal, project_id: UUID, run_id: UUID) -> bool:
        return False

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """There is nothing to cancel."""


class Pages(Protocol):
    """Where people find the pages of this house."""

    def approval(self, approval_id: UUID) -> str:
        """The address of the page that shows what waits for a person. It identifies and opens nothing by itself."""
        ...

    def provider_keys(self, project_id: UUID, provider: str = "") -> str:
        """The address of the page on which a project's keys for model providers are entered."""
        ...

    def members(self, project_id: UUID) -> str:
        """The address of the page of a project's members and invitations."""
        ...

    def base(self) -> str:
        """The address of the house, without a slash at its end; empty when it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class PagesAt:
    """The pages under a public address; without one, paths alone."""

    base_url: str = ""

    def approval(self, approval_id: UUID) -> str:
        return f"{self.base()}/approvals/{approval_id}"

    def provider_keys(self, project_id: UUID, provider: str = "") -> str:
        page = f"{self.base()}/projects/{project_id}/provider-keys"
        return f"{page}?provider={provider}" if provider else page

    def members(self, project_id: UUID) -> str:
        return f"{self.base()}/projects/{project_id}/members"

    def base(self) -> str:
        return self.base_url.rstrip("/")


class Meaning(NamedTuple):
    """What words mean to an embedding model. Vectors of different models do not compare."""

    vector: Sequence[float]
    model: str


class Meanings(Protocol):
    """An embedding model, where one is configured: ``model`` is its name, or ``None``."""

    @property
    def model(self) -> str | None: ...

    async def of(self, words: str) -> Meaning | None:
        """What words mean; ``None`` where no model can say, or not soon enough: then words alone have to do."""
        ...

    async def of_all(self, texts: Sequence[str]) -> list[list[float]]:
        """Of each text its vector. Raises ``AppError``."""
        ...


class NoMeanings:
    """Without an embedding model."""

    model: str | None = None

    async def of(self, words: str) -> Meaning | None:
        return None

    async def of_all(self, texts: Sequence[str]) -> list[list[float]]:
        raise AppError("embedding_not_configured", 503, "There is no embedding model.", "Ask who runs this house.")


NO_MEANINGS: Final[Meanings] = NoMeanings()


@dataclass(frozen=True, slots=True)
class StorageRules:
    """How much may be stored, and for how long things about files hold. Sizes in bytes.

    ``quota_bytes``: of a project that has none of its own. ``single_bytes``: what is longer goes in parts.
    ``pending_seconds``: how long an announced upload is waited for, ``temporary_seconds``: how long a temporary file is
    kept, ``ticket_seconds``: how long a signed address is good.
    """

    quota_bytes: int = 10 << 30
    largest_bytes: int = 5 << 30
    single_bytes: int = 64 << 20
    pending_seconds: int = 24 * 3600
    temporary_seconds: int = 24 * 3600
    ticket_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class MailRules:
    """What mail may be. Sizes in bytes: ``content_bytes`` of text and HTML, ``attachment_bytes`` of all files together.

    ``sender``: of projects without an account of their own with the provider. ``recipients``: most of one mail.
    """

    sender: str = "Innkeeper <innkeeper@localhost>"
    content_bytes: int = 500_000
    attachment_bytes: int = 25 << 20
    attachments: int = 20
    recipients: int = 50
    days_ahead: int = 365


class InvitationLinks(Protocol):
    """The links of invitations. Their tokens pass through no model: they are mailed, or shown to a person on a page."""

    @property
    def seal(self) -> Callable[[str], bytes] | None:
        """Makes what a mail carries of a token; ``None`` where no mail is sent."""
        ...


@dataclass(frozen=True, slots=True)
class NoInvitationMail:
    """Where no mail is sent."""

    seal: Callable[[str], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a tool can reach. Tests replace it whole."""

    database: Database
    runs: Runs
    pages: Pages = PagesAt()
    limits: Limits = NO_LIMITS
    store: Store = NO_STORE
    storage: StorageRules = StorageRules()
    outside: Outside = NOTHING_OUTSIDE
    meanings: Meanings = NO_MEANINGS
    mail: MailRules = MailRules()
    invitations: InvitationLinks = NoInvitationMail()
