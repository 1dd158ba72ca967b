"""What of a service is monitored: every check's name and kind, what it needs, and under which rules it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from firstwatch.hosts import show_host, split_host
from firstwatch.spec.models import Rules, Service
from firstwatch.spec.synthetic import Dependency, Watched, watched

HTTPS_PORT = 443


def watched_of(service: Service) -> Iterator[Watched]:
    """All monitored checks of a service, in the order of the file's sections; none without `synthetic:`."""
    if service.synthetic is not None:
        smoke = [check.name for check in service.smoke.checks] if service.smoke is not None else []
        yield from watched(service.synthetic, smoke, certificate_hosts(service))


def needs_of(service: Service) -> dict[str, tuple[str, ...]]:
    """Each monitored check, and the checks without which it cannot work."""
    return {check.name: check.needs for check in watched_of(service)}


def certificate_hosts(service: Service) -> list[str]:
    """Whose certificates are looked at, as host or, unless it is 443, host:port: those named, or else base_url's where
    that is https."""
    if service.synthetic is None or service.synthetic.certificate is None:
        return []
    if service.synthetic.certificate.hosts:
        return [_as_shown(host) for host in service.synthetic.certificate.hosts]
    scheme, _, rest = service.base_url.partition("://")
    host = rest.partition("/")[0]
    return [_as_shown(host)] if scheme.lower() == "https" and host else []


def _as_shown(host: str) -> str:
    """The one way to write it, as its check is called; what is no host stays as it is, for the loader to tell."""
    try:
        return show_host(*split_host(host, HTTPS_PORT), HTTPS_PORT)
    except ValueError:
        return host


def rules_for(service: Service, dependency: Dependency) -> Rules:
    """The service's rules as they hold for one dependency: it is only read, its own host may be asked besides that of
    base_url, and none of the others that rules.hosts names. The budget of requests is the service's.

    Raises ValueError if the dependency's address is no URL.
    """
    own = urlsplit(dependency.get).netloc  # with its port, as written: without one it stands for the scheme's own
    return service.rules.model_copy(update={"hosts": [own], "allow": [], "sandbox": None, "account": None})
