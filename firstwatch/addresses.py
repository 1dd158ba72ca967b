"""Which IP addresses a host name may lead to. Pure."""

from __future__ import annotations

import ipaddress

_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_local_address(ip: str) -> bool:
    """Is this an address of this machine or of a private network? Raises ValueError if it is no address."""
    return not _plain(ip).is_global


def is_forbidden_address(ip: str, base_is_local: bool) -> bool:
    """May a host name not lead there? Link-local, metadata, multicast and unspecified addresses never; private and
    loopback ones only if the service itself lives there (`base_is_local`). Raises ValueError if it is no address.
    """
    address = _plain(ip)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return True
    if not address.is_loopback and address.is_reserved:  # ::1 lies in a reserved range, and is loopback all the same
        return True
    return not address.is_global and not base_is_local


def _plain(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that is really reached: an IPv4 one wrapped in IPv6 (mapped, 6to4, NAT64) is unwrapped."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
