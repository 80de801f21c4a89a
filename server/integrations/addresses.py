"""Which addresses the house connects to for a tenant: those of the public internet, and what its operator opens.

The ranges are those of IANA's registries of special-purpose addresses (RFC 6890 and later), written out: what Python
calls ``is_global`` differs between its versions. Of IPv6 only 2000::/3, all there is of global unicast, so that every
form that holds an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) is out.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def _networks(listed: str) -> tuple[Network, ...]:
    return tuple(ip_network(one) for one in listed.split())


PRIVATE: Final = _networks("10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 ::1/128 fc00::/7")
"""What an operator may mean by "private": one's own machine and network, carrier-grade NAT included (RFC 6598)."""

NEVER: Final = _networks(
    "0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 ::/127 ::ffff:0:0/96 fe80::/10 fec0::/10 ff00::/8"
)
"""Unspecified, link-local, multicast, reserved and IPv4-mapped: nothing that a tenant could name is there. No setting
opens them; ``::1`` alone is told apart."""

METADATA: Final = _networks("168.63.129.16/32 100.100.100.200/32 192.0.0.192/32 fd00:ec2::/32 fd20:ce::254/128")
"""Where clouds hand out credentials to whoever asks (Azure, Alibaba, Oracle, Amazon, Google), besides the link-local
169.254.169.254. No setting opens them."""

_SPECIAL: Final = PRIVATE + _networks(
    "192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 198.18.0.0/15"
    " 198.51.100.0/24 203.0.113.0/24 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOOPBACK: Final = IPv6Address("::1")


class Addresses:
    """``opened``: networks that the operator lets tenants name although they are not public."""

    def __init__(self, opened: Iterable[Network] = ()) -> None:
        self.opened = tuple(opened)

    def permits(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        if _within(address, METADATA) or (_within(address, NEVER) and address != _LOOPBACK):
            return False
        if _within(address, self.opened):
            return address not in _NAT64 or self.permits(IPv4Address(int(address) & 0xFFFFFFFF))
        if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
            return False
        return not _within(address, _SPECIAL)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
