"""Mail by SMTP (RFC 5321), over TLS (RFC 3207, 8314) unless the operator says otherwise.

The protocol has no key for a message: once the last dot is sent, a lost answer cannot be asked for again. So the mail
is written down as leaving when everything but that dot is with the server. Before that a failure sends nothing, and is
tried again; after it, a mail whose answer is lost is unconfirmed, and never sent twice.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, cast

from aiosmtplib import SMTP
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

from server.mail.carrier import Carried, DeferredError, Leaving, RefusedError, UnconfirmedError, said
from server.mail.message import Message

SECONDS: Final = 10.0
LAST_SECONDS: Final = 60.0
"""For the answer to the last dot: some servers look through the whole mail before it (RFC 5321, 4.5.3.2.6)."""
Security = Literal["starttls", "tls", "none"]
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_DOTS: Final = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SmtpAccount:
    """``security``: STARTTLS, TLS from the first byte, or none. ``ca_file``: whose signature the server's certificate
    has, when it is not one that everybody knows."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"SmtpAccount({self.host}:{self.port})"


class SmtpCarrier:
    """A connection for each mail: they are few, and one that stood idle is the one that is lost in the middle."""

    repeats: timedelta = timedelta(0)

    def __init__(self, account: SmtpAccount) -> None:
        self.route = f"smtp/{account.host}:{account.port}"
        self._account = account

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        data = _wire(message)
        async with _before_the_dot(), self._connected() as server:
            size = [f"size={len(data)}"] if server.supports_extension("size") else []
            await server.mail(message.sender.address, options=size)
            refused = await _recipients(server, message.recipients)
            await _put(server, data)
            await leaving()
            answer = await _last(server)
            _part(server)
        if answer.code != 250:
            raise _failure(answer.code, answer.message)
        return Carried(refused=refused)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[SMTP]:
        account = self._account
        server = SMTP(
            hostname=account.host,
            port=account.port,
            use_tls=account.security == "tls",
            start_tls=account.security == "starttls",
            username=account.username,
            password=account.password,
            tls_context=None if account.security == "none" else ssl.create_default_context(cafile=account.ca_file),
            timeout=SECONDS,
        )
        try:
            await server.connect()
            if server.is_ehlo_or_helo_needed:
                await server.ehlo()
            yield server
        finally:
            server.close()  # without its dot the mail is not taken


@asynccontextmanager
async def _before_the_dot() -> AsyncIterator[None]:
    """What goes wrong here has sent nothing."""
    try:
        yield
    except SMTPResponseException as error:
        raise _failure(error.code, error.message) from error
    except (SMTPException, OSError) as error:
        words = str(error) or type(error).__name__
        raise DeferredError(said("the mail server cannot be used:", words)) from error


async def _put(server: SMTP, data: bytes) -> None:
    """Send the mail without its dot, and return when none of it waits in this process."""
    answer = await server.execute_command(b"DATA")
    if answer.code != 354:
        raise _failure(answer.code, answer.message)
    protocol, transport = server.protocol, server.transport
    if protocol is None or transport is None:
        raise SMTPServerDisconnected("the connection is lost")
    cast("asyncio.WriteTransport", transport).set_write_buffer_limits(0)
    protocol.write(data)
    async with asyncio.timeout(LAST_SECONDS):
        await protocol._drain_helper()  # noqa: SLF001  the library itself never waits for what it wrote


async def _last(server: SMTP) -> SMTPResponse:
    """Send the last dot, and wait for what the server says to it."""
    if not server.is_connected:  # then no dot leaves, and the mail was not taken
        raise SMTPServerDisconnected("the connection was lost before the last dot")
    try:
        return await server.execute_command(b".", timeout=LAST_SECONDS)
    except (SMTPException, OSError) as error:
        raise UnconfirmedError("the mail server took the mail and did not say whether it keeps it") from error


def _part(server: SMTP) -> None:
    """Say QUIT, and wait for nothing: until what became of the mail is written down, each moment is one to die in."""
    if server.protocol is not None:
        with suppress(SMTPException):
            server.protocol.write(b"QUIT\r\n")


async def _recipients(server: SMTP, addresses: list[str]) -> dict[str, str]:
    """Name the recipients; those the server will never take, with its words. Raises unless it takes all others."""
    refused: dict[str, str] = {}
    for address in addresses:
        answer = await server.execute_command(b"RCPT", f"TO:<{address}>".encode())
        if answer.code in (250, 251):
            continue
        if answer.code < 500:
            raise DeferredError(said(answer.code, answer.message))
        refused[address] = said(answer.code, answer.message)
    if len(refused) == len(addresses):
        raise RefusedError(next(iter(refused.values())))
    return refused


def _failure(code: int, message: str) -> Exception:
    """A server that will not let us in is the operator's to mend, and the mail's to wait for."""
    detail = said(code, message)
    for_good = 500 <= code < 600 and code not in (530, 534, 535, 538)
    return RefusedError(detail) if for_good else DeferredError(detail)


def _wire(message: Message) -> bytes:
    """The message with CRLF at each line's end and dots doubled (RFC 5321, 4.5.2), all but the last dot."""
    data = _LINE_END.sub(b"\r\n", message.mime().as_bytes())
    return _DOTS.sub(b"..", data if data.endswith(b"\r\n") else data + b"\r\n")
