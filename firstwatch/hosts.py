"""Hosts and ports as people write them: shop.example.com, 192.0.2.53:5353, [::1]:8443, ::1."""

from __future__ import annotations

import ipaddress
import re

_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")


def split_host(text: str, port: int) -> tuple[str, int]:
    """The host, without brackets, and its port; `port` where it names none. Raises ValueError for anything else."""
    text = text.strip()
    if is_address(text):
        return text, port
    found = _WITH_PORT.fullmatch(text)
    named = int(found["port"] or port) if found else 0
    host = (found["bracketed"] or found["host"]) if found else ""
    if not 1 <= named <= 65_535 or re.search(r"[\s/@?#]", host):
        raise ValueError(f"{text!r} is not a host; write it as host, host:port or [IPv6 address]:port")
    return host, named


def show_host(host: str, port: int, usual: int) -> str:
    """The same the other way round; the usual port is left out."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port == usual else f"{shown}:{port}"


def to_ascii(host: str) -> str:
    """A host's name as TLS, DNS and URLs carry it (IDNA 2008, as httpx has it: `straße.de` is not `strasse.de`), in
    lower case and without the last dot. Raises ValueError for what cannot be one."""
    host = host.lower().rstrip(".")
    if host.isascii():
        return host
    import idna  # its tables take a while to load, and few names need them

    return idna.encode(host).decode("ascii")


def is_address(host: str) -> bool:
    """Is it an IP address, and no name?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
