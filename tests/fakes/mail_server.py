"""A mail server on a real socket (aiosmtpd), with STARTTLS and AUTH, that records what it took and stops where told.

``stop_at`` names a step (``connect``, ``EHLO``, ``AUTH``, ``MAIL``, ``RCPT``, ``DATA``, ``.``, ``kept``); there it
says so and waits until it may go on.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.fakes.certificates import certificate

KEPT = "250 kept"
USERNAME, PASSWORD = "innkeeper", "a password that only tests have"


@dataclass(frozen=True)
class Taken:
    """A mail the server said it keeps (or was told to keep silent about)."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    tls: bool
    user: str | None


@dataclass
class MailServer:
    """``answers``: what it says to a step instead, or to a recipient."""

    host: str = "127.0.0.1"
    port: int = 0
    ca_file: str = ""
    taken: list[Taken] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    connections: int = 0
    cut_after: bytes | None = None
    """Of the next mail it reads so far, and stops at the step ``cut``: what comes after that is not to come."""
    stop_at: str | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self, name: str) -> str | None:
        """Wait where the test wants to look or to kill; gives the answer it wants."""
        if self.stop_at == name:
            self.stopped.set()
            await self.go_on.wait()
        return self.answers.get(name)

    # What aiosmtpd calls.

    async def handle_EHLO(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await self.step("EHLO")
        return responses

    async def handle_AUTH(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, args: list[str]
    ) -> Any:
        await self.step("AUTH")
        return MISSING

    async def handle_MAIL(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = await self.step("MAIL")
        envelope.mail_from = address
        return said or "250 OK"

    async def handle_RCPT(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = str(await self.step("RCPT") or self.answers.get(address, "250 OK"))
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  the name that aiosmtpd calls
        """The last dot is here. The mail counts before anything is answered."""
        refused = self.answers.get(".")
        if refused is None or not refused.startswith(("4", "5")):
            content, transport = envelope.original_content or b"", server.transport
            known = cast("LoginPassword | None", session.auth_data)
            user = known.login.decode() if known else None
            message = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
            self.taken.append(
                Taken(
                    str(envelope.mail_from),
                    list(envelope.rcpt_tos),
                    message,
                    transport is not None and transport.get_extra_info("ssl_object") is not None,
                    user,
                )
            )
        return await self.step(".") or KEPT

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
    ) -> AuthResult:
        right = isinstance(auth_data, LoginPassword) and auth_data == LoginPassword(
            USERNAME.encode(), PASSWORD.encode()
        )
        return AuthResult(success=right, handled=False, auth_data=auth_data if right else None)


class _Server(SMTP):
    """Also stops where aiosmtpd has no hook: at first, after DATA, while the mail comes, and having said it is kept."""

    async def _handle_client(self) -> None:
        handler: MailServer = self.event_handler
        if self.session is not None and self.session.ssl is None:
            await handler.step("connect")
        await super()._handle_client()

    async def push(self, status: Any) -> None:
        await super().push(status)
        handler: MailServer = self.event_handler
        if str(status).startswith("354") and handler.cut_after is not None:
            await self._reader.readuntil(handler.cut_after)
            await handler.step("cut")
        elif status == KEPT:
            await handler.step("kept")

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  the name that aiosmtpd calls
        handler: MailServer = self.event_handler
        said = await handler.step("DATA")
        if said is not None:
            await self.push(said)
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def mail_server(
    folder: Path, *, tls: bool = True, implicit: bool = False, server: MailServer | None = None
) -> AsyncIterator[MailServer]:
    """``folder``: where its certificate is put. Without ``tls`` it neither offers STARTTLS nor wants a user."""
    server = server or MailServer()
    made = certificate(folder)
    server.ca_file = str(made.ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    def connected() -> SMTP:
        server.connections += 1
        with warnings.catch_warnings():
            # It takes a user's password without STARTTLS because the connection is over TLS from the first byte.
            warnings.simplefilter("ignore", UserWarning)
            return made_server()

    def made_server() -> SMTP:
        return _Server(
            server,
            hostname="mail.example.test",
            tls_context=context if tls and not implicit else None,
            require_starttls=tls and not implicit,
            auth_required=tls,
            auth_require_tls=not implicit,
            authenticator=server.authenticate,
            enable_SMTPUTF8=False,
        )

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(connected, "127.0.0.1", 0, ssl=context if implicit else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.go_on.set()
        listening.close()
