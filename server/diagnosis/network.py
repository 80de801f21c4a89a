"""The way to a server, before anything is said to it: its name, its port, its certificate."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from server.diagnosis.wire import shown
from server.finding import Finding

SECONDS: Final = 5.0
SOON: Final = dt.timedelta(days=14)


def address(url: str) -> tuple[SplitResult | None, list[Finding]]:
    """The parts of ``url``, and what is wrong with how it is written; no parts when nobody can go there."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, [Finding("address", "fault", "This is no address: its port or host cannot be read.")]
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return None, [Finding("address", "fault", "This is no address: give http(s)://HOST[:PORT]/PATH.")]
    findings = []
    if parts.username is not None:
        return None, [Finding("address", "fault", "The address has a user or password in it: take it out.")]
    if parts.fragment:
        findings.append(Finding("address", "warn", "The part behind '#' never reaches a server: take it out."))
    if parts.scheme == "http" and not is_local(parts.hostname):
        said = "http:// shows tokens to everyone on the way, and most clients refuse it: use https://."
        findings.append(Finding("address", "warn", said))
    return parts._replace(netloc=_netloc(parts)), findings


def _netloc(parts: SplitResult) -> str:
    """Host and port as clients write them before they compare (RFC 3986 6.2.2.1, 6.2.3)."""
    host, port = parts.netloc.lower(), f":{443 if parts.scheme == 'https' else 80}"
    return host.removesuffix(port)


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def reach(parts: SplitResult) -> AsyncIterator[Finding]:
    """Name, port and certificate; the last finding is a fault when there is no way."""
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    if (proxy := getproxies().get(parts.scheme)) and not proxy_bypass(host):
        yield Finding("network", "note", f"Goes through the proxy at {urlsplit(proxy).netloc.rpartition('@')[2]}.")
        return
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        said = f"There is no address for {host}: check the spelling, the DNS record, and this computer's connection."
        yield Finding("dns", "fault", said)
        return
    sockets = sorted({(family, where[0]) for family, _, _, _, where in found}, key=str)
    yield Finding("dns", "ok", f"{host} is {', '.join(str(ip) for _, ip in sockets)}")
    faults = [(ip, why) for _, ip in sockets if (why := await _refused(str(ip), port))]
    if len(faults) == len(sockets):
        yield Finding("tcp", "fault", f"Port {port}: {faults[0][1]}")
        return
    for ip, why in faults:
        yield Finding("tcp", "warn", f"{ip} port {port}: {why} Clients that try it first wait or fail.")
    yield Finding("tcp", "ok", f"port {port} is open")
    if parts.scheme == "https":
        yield await _certificate(host, port)


async def _refused(ip: str, port: int) -> str:
    """Why no connection can be made; empty when one can."""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(ip, port)
        writer.close()
    except TimeoutError:
        return "nothing answers, a firewall may drop it: open the port, or check the address."
    except ConnectionRefusedError:
        return "the connection is refused, nothing listens there: start the server, or check the port."
    except OSError as error:
        return f"no connection ({error.strerror or error}): check the network between here and there."
    return ""


async def speaks_tls(parts: SplitResult) -> bool:
    """Whether the port of a plain address wants TLS after all."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said on this connection
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, ssl=context)
        writer.close()
    except (OSError, TimeoutError):
        return False
    return True


async def _certificate(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(
                host, port, ssl=ssl.create_default_context(), server_hostname=host
            )
        seen: dict[str, Any] = writer.get_extra_info("peercert") or {}
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
    except ssl.SSLCertVerificationError as error:
        return Finding("tls", "fault", _unverified(host, error))
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return Finding("tls", "fault", "This port does not speak TLS: use http://, or the port that does.")
        return Finding(
            "tls", "fault", f"TLS fails ({shown(error.reason or str(error))}): check the server's TLS settings."
        )
    except (OSError, TimeoutError) as error:
        said = f"The connection ends during TLS ({type(error).__name__}): check that this port speaks TLS."
        return Finding("tls", "fault", said)
    until = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(seen["notAfter"]), dt.UTC)
    if until - dt.datetime.now(dt.UTC) < SOON:
        return Finding("tls", "warn", f"The certificate ends on {until:%Y-%m-%d}: renew it.")
    return Finding("tls", "ok", f"{version}, certificate until {until:%Y-%m-%d}")


def _unverified(host: str, error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message
    advice = {
        10: "renew it.",
        18: "nobody vouches for it; use one of a known authority, or set SSL_CERT_FILE (clients in Node: "
        "NODE_EXTRA_CA_CERTS) to it.",
        19: "its authority is not known here: set SSL_CERT_FILE (clients in Node: NODE_EXTRA_CA_CERTS) to it.",
        20: "its chain is not whole: serve the intermediate certificates too, or set SSL_CERT_FILE to its authority.",
        62: f"it is for other names: make one for {host}, or use the name it is for.",
        64: f"it is for other names: make one for {host}, or use the name it is for.",
    }.get(error.verify_code, "mend it.")
    return f"The certificate is refused ({shown(why)}): {advice}"
