"""Hosts and ports, as they are written in service files."""

from __future__ import annotations

import pytest

from firstwatch.hosts import show_host, split_host


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("shop.example.com", "shop.example.com", 443),
        ("shop.example.com:8443", "shop.example.com", 8443),
        ("192.0.2.53", "192.0.2.53", 443),
        ("192.0.2.53:5353", "192.0.2.53", 5353),
        ("::1", "::1", 443),
        ("2001:db8::53", "2001:db8::53", 443),
        ("[::1]", "::1", 443),
        ("[::1]:5353", "::1", 5353),
        (" shop.example.com ", "shop.example.com", 443),
    ],
)
def test_a_host_and_its_port(text: str, host: str, port: int) -> None:
    assert split_host(text, 443) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":443", "a:0", "a:65536", "a:b", "[::1", "https://a", "a/b", "u@a", "a b", "a:1:2"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        split_host(text, 443)


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("a.example", 443, "a.example"),
        ("a.example", 8443, "a.example:8443"),
        ("::1", 443, "[::1]"),
        ("::1", 1, "[::1]:1"),
    ],
)
def test_a_host_is_shown_so_that_it_can_be_read_back(host: str, port: int, shown: str) -> None:
    assert show_host(host, port, 443) == shown
    assert split_host(shown, 443) == (host, port)
