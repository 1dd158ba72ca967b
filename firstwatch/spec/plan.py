"""What the requests of a service file may be: the same rules that the transport holds each of them to, asked early.

The transport's own decision (`rules.judge_request`) has the last word here too, so that a file which loads is not
refused later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from firstwatch import rules as policy
from firstwatch.spec.diagnostics import Finding
from firstwatch.spec.findings import Loc, is_host, passes, url
from firstwatch.spec.models import Allowed, Rules, Service
from firstwatch.spec.monitored import rules_for
from firstwatch.spec.request import METHODS, Request
from firstwatch.spec.synthetic import SAVED, Dependency

_SANDBOX_HINT = "name it under rules.sandbox, with the header that tells the service that it is not real"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def findings(service: Service, *, reachable: bool) -> Iterator[Finding]:
    """What is wrong with the plan. Not `reachable`: base_url itself is wrong."""
    yield from _rules(service.rules)
    for loc, request in _requests(service):
        yield from _request(loc, request, service, reachable)
    for i, dependency in enumerate(service.synthetic.dependencies if service.synthetic else ()):
        yield from _dependency(("synthetic", "dependencies", i), dependency, service, reachable)


def _requests(service: Service) -> Iterator[tuple[Loc, Request]]:
    """All requests to the service itself, each with its place."""
    if service.smoke is not None:
        if service.smoke.version is not None:
            yield ("smoke", "version"), Request(get=service.smoke.version.get)
        yield from ((("smoke", "checks", i), check) for i, check in enumerate(service.smoke.checks))
    if service.synthetic is None:
        return
    yield from ((("synthetic", "checks", i), check) for i, check in enumerate(service.synthetic.checks))
    for i, journey in enumerate(service.synthetic.journeys):
        for key, steps in (("steps", journey.steps), ("cleanup", journey.cleanup)):
            yield from ((("synthetic", "journeys", i, key, j), step) for j, step in enumerate(steps))
    for i, drift in enumerate(service.synthetic.drift):
        yield ("synthetic", "drift", i), Request(get=drift.get, headers=drift.headers)


def _dependency(loc: Loc, dependency: Dependency, service: Service, reachable: bool) -> Iterator[Finding]:
    """A dependency is read at its own address, under rules of its own."""
    if re.match(r"/(?!/)", dependency.get):
        yield Finding(
            (*loc, "get"),
            f"{dependency.get!r} is a path of the service, not the address of something else",
            "write https://…, or put it under synthetic.checks",
        )
        return
    if wrong := list(url((*loc, "get"), dependency.get, query=True)):
        yield from wrong
        return
    own = service.model_copy(update={"rules": rules_for(service, dependency)})
    yield from _request(loc, Request(get=dependency.get, headers=dependency.headers), own, reachable)


def _rules(rules: Rules) -> Iterator[Finding]:
    for i, allowed in enumerate(rules.allow):
        method, _, path = allowed.request.partition(" ")
        if method.upper() not in METHODS or not path.strip().startswith("/"):
            hint = 'write method and path, for example "POST /auth/token"'
            yield Finding(("rules", "allow", i, "request"), f"{allowed.request!r} is not a request", hint)
        elif any("${" in part and not SAVED.fullmatch(part) for part in path.replace("?", "?/x", 1).split("/")):
            told = "`${…}` stands for one whole segment of a path, between two /"
            yield Finding(("rules", "allow", i, "request"), told, "for example DELETE /cart/${cart}")
    for i, host in enumerate(rules.hosts):
        if not is_host(host):
            yield Finding(("rules", "hosts", i), "this is not a host", "write cdn.example.com or cdn.example.com:8443")
    yield from passes(("rules", "timeout"), rules.timeout)
    if rules.sandbox is not None:
        yield from _header(("rules", "sandbox", "header"), rules.sandbox.header, rules.sandbox.value)
        for i, path in enumerate(rules.sandbox.paths):
            if not path.startswith("/"):
                yield Finding(("rules", "sandbox", "paths", i), f"{path!r} is not a path", "start it with /")


def _request(loc: Loc, request: Request, service: Service, reachable: bool) -> Iterator[Finding]:
    """All that is wrong with one request."""
    place = (*loc, request.method.lower())
    for name, value in request.headers.items():
        yield from _header((*loc, "headers", name), name, value)
    bodies = [key for key, body in _bodies(request).items() if body is not None]
    if len(bodies) > 1:
        yield Finding((*loc, bodies[1]), f"a request carries one body, not {' and '.join(bodies)}", "keep one of them")
    if not re.match(r"/(?!/)|https?://", request.path):
        yield Finding(place, f"{request.path!r} is not a path", "start it with one /; it is below base_url")
        return
    if not _is_free(request, service):
        path = request.path.partition("?")[0]
        listed = f"{{request: {request.method} {path}, because: …}}"
        yield Finding(
            place,
            f"{request.method} {path} is not a plain read and is not listed",
            f"add - {listed} to rules.allow",
            needs=("rules",),
        )
    if reachable:
        yield from _refusal(loc, request, service)


def _header(loc: Loc, name: str, value: str) -> Iterator[Finding]:
    if name.lower() in policy.RESERVED_HEADERS:
        yield Finding(loc, f"the header {name} is set by Firstwatch on every request", "take it out")
    elif not _HEADER_NAME.fullmatch(name) or re.search(r"[\r\n\0]", value):
        yield Finding(loc, "this is not a header", "a name of letters and dashes, a value on one line")


def _is_free(request: Request, service: Service) -> bool:
    parts = urlsplit(_sampled(request.path))
    if request.method in policy.READS:
        return True
    return policy.is_listed(request.method, parts.path, service.rules, query=parts.query)


def _sampled(path: str) -> str:
    """With something for each saved value: what it will be is not known yet, and its name may be any, `payment` too."""
    return SAVED.sub("0", path)


def _refusal(loc: Loc, request: Request, service: Service) -> Iterator[Finding]:
    """What the transport would say, were the request listed and its headers in order; told where its cause stands."""
    path = _sampled(request.path)
    listed = Allowed(request=f"{request.method} {urlsplit(path).path}", because="only to ask what else is wrong")
    rules = service.rules.model_copy(update={"allow": [*service.rules.allow, listed]})
    headers = {k: v for k, v in request.headers.items() if k.lower() not in policy.RESERVED_HEADERS}
    url_asked = policy.target_url(service.base_url, path)
    body_key, body = next(((key, text) for key, text in _bodies(request).items() if text is not None), ("", None))
    for key, sent in ((request.method.lower(), None), (body_key, body)):
        said = policy.judge_request(request.method, url_asked, headers, sent, rules=rules, base_url=service.base_url)
        if isinstance(said, policy.Refused):
            message, _, hint = said.why.partition("; ")
            hint = _SANDBOX_HINT if "sandbox" in hint else hint
            if "rules.hosts" in message:
                hint = "write the path only, or list the host under rules.hosts"
            yield Finding((*loc, key), message, hint, needs=("rules", "base_url"))
            return


def _bodies(request: Request) -> dict[str, str | None]:
    """The bodies as they are sent, by key."""
    return {
        "json": None if request.json_body is None else json.dumps(request.json_body),
        "form": None if request.form is None else urlencode(request.form),
        "body": request.body,
    }
