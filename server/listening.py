"""The listening socket: bound before the slow work, so that an occupied port is known at once."""

from __future__ import annotations

import errno
import socket

from server.refusal import Refusal


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: until it does, clients are refused instead of left waiting."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise Refusal(f"--host {host} is not an address of this machine: use 127.0.0.1, 0.0.0.0 or ::.") from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise Refusal(_sentence(error, host, port)) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a client on this machine reaches the socket; an any-address is reached through loopback."""
    host, port = bound.getsockname()[:2]
    return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104  (compared with, not bound to)


def listens_on(bound: socket.socket) -> str:
    """The address itself, which says from where it can be reached."""
    return _url(*bound.getsockname()[:2])


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _sentence(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program: stop it, or choose another with --port (0: any)."
    if error.errno == errno.EACCES:
        return f"Port {port} may only be opened by root: choose one above 1023 with --port."
    return f"--host {host} is not an address of this machine: use 127.0.0.1, 0.0.0.0 or ::."
