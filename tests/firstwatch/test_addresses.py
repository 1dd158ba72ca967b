"""Where a host name may not lead."""

from __future__ import annotations

import pytest

from firstwatch.addresses import is_forbidden_address, is_local_address


@pytest.mark.parametrize(
    "ip",
    ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
     "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
     "fd00:ec2::254", "100.100.100.200"],
)  # fmt: skip
def test_some_addresses_are_never_asked(ip: str) -> None:
    assert is_forbidden_address(ip, base_is_local=True)


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "127.1.2.3", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1",
     "::ffff:10.0.0.1"],
)  # fmt: skip
def test_inside_addresses_are_asked_only_of_an_inside_service(ip: str) -> None:
    assert is_local_address(ip)
    assert is_forbidden_address(ip, base_is_local=False)
    assert not is_forbidden_address(ip, base_is_local=True)


@pytest.mark.parametrize("ip", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_outside_addresses_are_asked(ip: str) -> None:
    assert not is_local_address(ip)
    assert not is_forbidden_address(ip, base_is_local=False)
