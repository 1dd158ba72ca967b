"""What can be wrong with the alert rules although every single field is in order."""

from __future__ import annotations

from collections.abc import Iterator

from firstwatch.spec.alerts import LEAST_REMINDER, Alerts, Slack, Streak
from firstwatch.spec.diagnostics import Finding, did_you_mean
from firstwatch.spec.findings import passes, url
from firstwatch.spec.models import Service
from firstwatch.spec.monitored import watched_of
from firstwatch.units import show_duration


def findings(service: Service) -> Iterator[Finding]:
    """Every fault of meaning in the service's alerts section."""
    alerts = service.alerts
    if alerts.slack is not None:
        yield from _slack(alerts.slack)
    for key, rule in (("open", alerts.open), ("close", alerts.close), ("degraded", alerts.degraded)):
        if rule is not None:
            yield from _streak(("alerts", key, "after"), rule.after)
    if alerts.remind is not None and 0 < alerts.remind < LEAST_REMINDER:
        told = f"`remind` must be {show_duration(LEAST_REMINDER)} or longer"
        yield Finding(("alerts", "remind"), told, "for example 1h; 0 or left out: never")
    yield from passes(("alerts", "flapping", "within"), alerts.flapping.within)
    yield from passes(("alerts", "storm", "within"), alerts.storm.within)
    yield from _locations(service, alerts.locations)
    yield from _maintenance(service, alerts)


def _slack(slack: Slack) -> Iterator[Finding]:
    if (slack.webhook is None) == (slack.token is None):
        found = "both" if slack.webhook else "neither"
        hint = "give webhook, or token and channel"
        yield Finding(("alerts", "slack"), f"slack has {found} of webhook and token", hint, needs=("alerts",))
    if slack.token is not None and slack.channel is None:
        yield Finding(
            ("alerts", "slack", "token"), "a Slack token needs a channel", "add channel: '#releases'", ("alerts",)
        )
    yield from url(("alerts", "slack", "api_url"), slack.api_url)


def _streak(loc: tuple[str, ...], streak: Streak) -> Iterator[Finding]:
    """The short form, `2 of 5`, is looked at where it is read; this is the long one."""
    if streak.count > streak.out_of:
        told = f"{streak.count} of {streak.out_of} can never be reached"
        yield Finding(loc, told, "write 3 in a row, or 2 of 5")


def _locations(service: Service, quorum: Streak | None) -> Iterator[Finding]:
    if quorum is None:
        return
    place, needs = ("alerts", "locations"), ("synthetic",)
    yield from _streak(place, quorum)
    synthetic = service.synthetic
    if synthetic is None or synthetic.locations is None:
        hint = "add synthetic.locations, for example [eu, us, ap], or take it out"
        yield Finding(place, "`locations` counts locations, and synthetic has none", hint, needs)
    elif quorum.out_of != (there := len(synthetic.locations.names)):
        told = f"`locations` counts {quorum.out_of} locations, and synthetic has {there}"
        yield Finding(place, told, f"write {min(quorum.count, there)} of {there}", needs)


def _maintenance(service: Service, alerts: Alerts) -> Iterator[Finding]:
    if not alerts.maintenance:
        return
    from firstwatch.alerting.maintenance import problems  # here: zones and cron are only loaded where they are used

    names = {watched.name for watched in watched_of(service)}
    for i, window in enumerate(alerts.maintenance):
        for problem in problems(window):
            message, _, hint = problem.partition("; ")
            yield Finding(("alerts", "maintenance", i), f"{window.name!r}: {message}", hint)
        for j, name in enumerate(window.checks):
            if name not in names and service.synthetic is not None:
                told, needs = f"there is no check named {name!r}", ("smoke", "synthetic")
                yield Finding(("alerts", "maintenance", i, "checks", j), told, did_you_mean(name, names), needs)
