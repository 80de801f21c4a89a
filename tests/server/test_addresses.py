"""Which addresses are public, against Python's own idea of it and against what the registries name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.integrations.addresses import METADATA, NEVER, PRIVATE, Addresses

PUBLIC = Addresses()
OPENED = Addresses(PRIVATE)


@pytest.mark.promise("GND-01")
@given(st.ip_addresses())
def test_what_is_permitted_is_global_unicast(address: IPv4Address | IPv6Address) -> None:
    if PUBLIC.permits(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved
    if OPENED.permits(address) and not PUBLIC.permits(address):
        assert any(address in network for network in PRIVATE)


@pytest.mark.promise("GND-01")
@given(st.data())
def test_no_address_of_a_special_range_is_permitted(data: st.DataObject) -> None:
    special = [*PRIVATE, *NEVER, *METADATA, *map(ip_network, ("198.18.0.0/15", "100.64.0.0/10", "192.0.0.0/24"))]
    network = data.draw(st.sampled_from(special))

    assert not PUBLIC.permits(network[data.draw(st.integers(0, network.num_addresses - 1))])


@pytest.mark.promise("GND-01")
@given(st.ip_addresses(v=4))
def test_no_form_of_ipv6_that_holds_an_ipv4_address_is_permitted(inner: IPv4Address) -> None:
    number = int(inner)
    forms = [
        (0xFFFF << 32) | number,  # mapped
        number,  # compatible
        (0x0064FF9B << 96) | number,  # NAT64 (RFC 6052)
        (0x0064FF9B0001 << 80) | number,  # NAT64 of a network (RFC 8215)
        (0x2002 << 112) | (number << 80),  # 6to4
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),  # Teredo
    ]

    assert not any(PUBLIC.permits(IPv6Address(form)) for form in forms)
    assert not any(OPENED.permits(IPv6Address(form)) for form in forms if form != 1)  # ::1 is loopback itself


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1"])
def test_addresses_of_the_internet_are_permitted(text: str) -> None:
    assert PUBLIC.permits(ip_address(text))


@pytest.mark.promise("GND-01")
def test_an_operator_opens_networks_but_never_metadata_link_local_or_multicast() -> None:
    everything = Addresses([ip_network("0.0.0.0/0"), ip_network("::/0")])
    lan = Addresses([ip_network("192.168.1.0/24"), ip_network("64:ff9b::/96")])

    closed = [
        "169.254.169.254",
        "fe80::1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "fd00:ec2::254",
        "168.63.129.16",
        "255.255.255.255",
    ]
    assert not any(everything.permits(ip_address(text)) for text in [*closed, "::ffff:127.0.0.1", "fe80::1%1"])
    assert not any(OPENED.permits(ip_address(text)) for text in [*closed, "100.100.100.200"])
    assert OPENED.permits(ip_address("::1"))
    assert OPENED.permits(ip_address("10.1.2.3"))
    assert lan.permits(ip_address("192.168.1.7"))
    assert not lan.permits(ip_address("192.168.2.7"))
    assert lan.permits(ip_address("64:ff9b::8.8.8.8"))
    assert not lan.permits(ip_address("64:ff9b::10.0.0.1"))
