"""What a round ends with: people are told, the page and the metrics are brought up to date, and its state is named."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from firstwatch.monitor import Health
from firstwatch.report.round import RoundReport, headline, health_of, round_markdown, sentence, worst
from firstwatch.report.text import count, plain
from firstwatch.schedule import phase
from tasks import metrics, store, watchdog
from tasks.deliver import deliver_outbox
from tasks.monitor import AT_REST, Monitor
from tasks.report import artifact_key, publish_markdown
from tasks.run import NotVerifiable, unharmed
from tasks.samples import samples_of
from tasks.secrets import load_secret

NAMES = {Health.UP: "Up", Health.DEGRADED: "Degraded", Health.DOWN: "Down", Health.UNKNOWN: "Unknown"}
_HEALTHS = {name: health for health, name in NAMES.items()}


async def tell(monitor: Monitor) -> None:
    """Deliver what people are yet to be told. What cannot be delivered now waits for the next round."""
    async with unharmed(f"{monitor.service.service}: people could not be told; the next round tries again"):
        assert monitor.client is not None
        monitor.deliveries = await deliver_outbox(
            monitor.client,
            monitor.service,
            monitor.redactor,
            load_secret,
            owner=f"{monitor.run}/{monitor.process}",
            clock=monitor.clock,
            store=store,
            book=monitor.book,
        )


async def publish(monitor: Monitor) -> None:
    """The page `monitor-shop`, and the metrics. A round in which something is not as it should be, or has become so,
    has a page of its own; the others bring the last one up to date, or there would be one a minute; and where nothing
    has happened, only one every AT_REST seconds does."""
    if not _is_at_rest(monitor):
        async with unharmed(f"{monitor.service.service}: the monitor's page was not published"):
            await _publish_page(monitor)
    settings = monitor.synthetic.metrics
    if settings.pushgateway:
        async with unharmed(f"{monitor.service.service}: its metrics were not pushed"):
            problem = await metrics.push(
                samples_of(monitor.service, monitor.location, monitor.place, monitor.alerts),
                settings.pushgateway,
                service=monitor.service.service,
                location=monitor.location,
                bearer=await load_secret(settings.bearer) if settings.bearer else None,
            )
            if problem:
                monitor.logger.warning("Metrics were not pushed: %s", problem)


async def say_alive(monitor: Monitor) -> None:
    """For those who watch the watcher: the server's own watchdog, and a dead-man switch outside."""
    assert monitor.client is not None
    service, location, health = monitor.service.service, monitor.location, health_of(monitor.seen)
    async with unharmed(f"{monitor.service.service}: the server's watchdog was not told that this round has ended"):
        await watchdog.round_ended(monitor.client, service, location, health, monitor.clock())
    if monitor.service.alerts.ping:
        async with unharmed(f"{monitor.service.service}: the dead-man switch was not asked"):
            if problem := await watchdog.ping(await load_secret(monitor.service.alerts.ping)):
                monitor.logger.warning("%s", problem)


def ended(monitor: Monitor) -> State[None]:
    """The state that the run ends in: Completed(Up), Completed(Degraded), Failed(Down), Failed(Unknown)."""
    health = health_of(monitor.seen)
    return _state(health, plain(monitor.redactor.text(sentence(monitor.seen, monitor.place.lateness)), 3000))


def ended_together(states: Mapping[str, State[None]]) -> State[None]:
    """The state of a run that took the rounds of several services, by name: the worst of theirs, and what each says
    that is not up. Of one alone: its own."""
    if len(states) == 1:
        return next(iter(states.values()))
    healths = {name: _HEALTHS.get(state.name or "", Health.UNKNOWN) for name, state in states.items()}
    not_up = [name for name, health in healths.items() if health is not Health.UP]
    up = f"{len(states) - len(not_up)} of {count(len(states), 'service')} up"
    said = (f"{name}: {states[name].name}: {states[name].message}" for name in not_up)
    return _state(worst(healths.values()), plain("; ".join([up, *said]), 3000))


def unknown(problem: NotVerifiable) -> State[None]:
    """The state of a round that could not be taken."""
    return Failed(name=NAMES[Health.UNKNOWN], message=plain(f"Nothing could be monitored: {problem}", 3000))


def _state(health: Health, message: str) -> State[None]:
    well = health in (Health.UP, Health.DEGRADED)
    return Completed(name=NAMES[health], message=message) if well else Failed(name=NAMES[health], message=message)


def broken_off(bug: Exception) -> State[None]:
    """The state of a round that one of our own faults has ended: it says nothing of the service. The fault's text might
    quote a request, so that the log has only where it happened."""
    kind = type(bug).__name__
    where = "".join(traceback.format_tb(bug.__traceback__))
    get_run_logger().error("The round broke off (%s):\n%s", kind, where)
    return Failed(name=NAMES[Health.UNKNOWN], message=f"The round broke off ({kind}); its log says where.")


def _is_at_rest(monitor: Monitor) -> bool:
    """Nothing has happened, and the page is new enough: by the schedule, as each round may have another process. Each
    service's turn is at a moment of its own, or the pages of hundreds would come in one minute of five."""
    quiet = monitor.was_up and health_of(monitor.seen) is Health.UP and monitor.calm
    told = bool(monitor.deliveries or monitor.notes or monitor.place.unsaid)
    own = phase(monitor.service.service, monitor.location, AT_REST)
    return quiet and not told and (monitor.was_planned - own) // AT_REST == (monitor.planned - own) // AT_REST


async def _publish_page(monitor: Monitor) -> None:
    assert monitor.client is not None
    report = RoundReport(
        service=monitor.service.service,
        location=monitor.location,
        place=monitor.place,
        places=await monitor.places(),
        state=monitor.alerts,
        waiting=sum(not delivery.ok for delivery in monitor.deliveries),
        notes=monitor.notes,
    )
    page = monitor.redactor.text(round_markdown(report))
    about = plain(monitor.redactor.text(headline(report)))
    key = artifact_key("monitor", monitor.service.service, monitor.location)
    if health_of(monitor.seen) is Health.UP and monitor.was_up and (standing := await _last_page(monitor, key)):
        await monitor.client.update_artifact(standing, ArtifactUpdate(data=page, description=about))
    else:
        await publish_markdown(key, page, about)


async def _last_page(monitor: Monitor, key: str) -> Any:
    from prefect.artifacts import Artifact

    assert monitor.client is not None
    found = await Artifact.aget(key=key, client=monitor.client)
    return found.id if found is not None else None
