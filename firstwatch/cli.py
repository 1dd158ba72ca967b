"""The command line: thin, because Prefect's own does the rest. Exit codes: 0 fine, 1 not fine, 2 used wrongly.

`check` is what editors, hooks and CI call all the time, so nothing that is slow to import stands at the top.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

if TYPE_CHECKING:
    from firstwatch.spec import Service

FINE, NOT_FINE, USED_WRONGLY = 0, 1, 2

app = App(
    name="firstwatch",
    help="Is the release that we just shipped really all right?",
    help_format="plaintext",  # as it stands: lines of help texts are kept within 80 columns
    default_parameter=Parameter(show_default=False),  # what is left out is said in words
)


@app.command
def check(
    files: Annotated[
        list[Path] | None, Parameter(help="Service files; left out: services/*.yaml.", negative=())
    ] = None,
    /,
    *,
    schema: Annotated[bool, Parameter(help="Print the JSON Schema of a service file instead.", negative=())] = False,
) -> int:
    """Say everything that is wrong with service files, with line and hint.

    A prefect.yaml beside the folder services/ is read too: misspelt keys, and the
    schedules of the monitors.

    Exits 0 if all are fine, 1 if there is something to put right, 2 if a file
    cannot be read.

    All of services/*.yaml, one file, and the schema by which editors complete them:

        firstwatch check

        firstwatch check services/shop.yaml

        firstwatch check --schema > docs/service-file.schema.json
    """
    if schema:
        from firstwatch.spec.schema import schema as json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return FINE
    paths = files or sorted(Path("services").glob("*.yaml"))
    if not paths:
        return _complain("there is no services/*.yaml here; name the files")
    checked = {path: _check(path) for path in paths}
    return max([*(code for code, _ in checked.values()), *_check_schedules(checked)])


@app.command
def backtest(
    service_file: Annotated[Path, Parameter(help="The service file; {{service}} in it is each release's service.")],
    /,
    *,
    releases: Annotated[
        Path | None, Parameter(help="A JSON list of {service, version, deployed_at, args}; left out: they are found.")
    ] = None,
    prometheus: Annotated[str, Parameter(help="Whose history is read; left out: the file's metrics.prometheus.")] = "",
    out: Annotated[
        str,
        Parameter(
            name="--json", allow_leading_hyphen=True, help="Write the verdicts to this file; - for standard output."
        ),
    ] = "",
    last: Annotated[str | None, Parameter(help="How far back releases are looked for, as in 7d (the default).")] = None,
    jobs: Annotated[int | None, Parameter(help="Processes that replay; left out: one a processor.")] = None,
    origin: Annotated[
        Literal["prometheus", "prefect"] | None,
        Parameter(name="--from", help="Where releases are looked for; left out: Prometheus, then Prefect."),
    ] = None,
    only: Annotated[
        Literal["window", "canary"] | None,
        Parameter(help="Replay that alone; left out: the window and, where the file has one, the canary's gate."),
    ] = None,
) -> int:
    """Replay past releases: their verdicts, when, why, and limits for no rollback.

    Exits 0 when all were replayed, whatever the verdicts; 1 if some could not be
    decided because we could not measure or judge; 2 if it was used wrongly; 130 on
    Ctrl-C, with what is done written.

    The releases of the last week, found by their version label; those of the last
    month, from another Prometheus; those of a list; and the verdicts for a script:

        firstwatch backtest services/shop.yaml

        firstwatch backtest services/shop.yaml --last 30d --prometheus URL

        firstwatch backtest services/shop.yaml --releases releases.json

        firstwatch backtest services/shop.yaml --json - | jq '.[].verdict'
    """
    from tasks.backtest import Words, command

    return command(Words(service_file, releases, prometheus, out, last, jobs, origin, only))


@app.command(name="import-argo")
def import_argo(
    template: Annotated[Path, Parameter(help="A file with AnalysisTemplates; /dev/stdin for a pipe.")],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Where to write; left out: the screen.")
    ] = None,
) -> int:
    """Write Argo Rollouts' analysis templates over as the canary section of a file.

    Conditions become CEL with the same meaning. What is not sound (a query that is
    no PromQL, a condition that can never fail or looks the wrong way) or not known
    here (another provider) is left out and named, each with file, line, column and
    a hint. Exits 0 if all was taken over, 1 if something was left out, 2 if there
    was nothing to read.

    To the screen, onto the end of a service file that has no canary section yet,
    and from a Helm chart:

        firstwatch import-argo analysis.yaml

        firstwatch import-argo analysis.yaml >> services/shop.yaml

        helm template CHART | firstwatch import-argo /dev/stdin
    """
    from firstwatch.argo.template import import_templates

    text = _text_of(template)
    if isinstance(text, int):
        return text
    imported = import_templates(text, str(template))
    for diagnostic in imported.diagnostics:
        print(diagnostic, file=sys.stderr)
    if not imported.templates:
        return _complain(f"{template}: there is no analysis template in it")
    if not imported.yaml:
        return NOT_FINE
    if output is None:
        print(imported.yaml, end="")
    else:
        try:
            output.write_text(imported.yaml, encoding="utf-8")
        except OSError as e:
            return _complain(f"{output}: {e.strerror}")
        print(f"{output}: {_counted(imported.taken, 'metric')} taken over, {imported.left_out} left out")
    return NOT_FINE if imported.diagnostics else FINE


@app.command
def setup(
    *,
    pool_type: Annotated[
        Literal["process", "firstwatch"],
        Parameter(help="Of the work pool: a process for each run, or all runs in their worker's own."),
    ] = "process",
) -> int:
    """Prepare a Prefect server: work pool, deployments, automations.

    Killed runs are restarted, and a monitor that falls silent is told to Slack.
    Safe to repeat. The server is the one of PREFECT_API_URL:

        firstwatch setup

        PREFECT_API_URL=http://127.0.0.1:4200/api firstwatch setup

    For workers that hold hundreds of runs each (docs/operations.md):

        firstwatch setup --pool-type firstwatch
        prefect worker start --pool production --type firstwatch
    """
    from tasks.setup import main as prepare

    prepare(pool_type)
    return FINE


@app.command
def beat(
    service: Annotated[str, Parameter(help="A file in services/, without .yaml.")],
    heartbeat: Annotated[str, Parameter(help="Its name, as under synthetic.heartbeats.")],
    /,
) -> int:
    """Call in: a job of the service's has run.

    Exits 0 once the Prefect server has it, 1 if the server does not answer, 2 if
    there is no such heartbeat. At the end of the job:

        backup.sh && firstwatch beat shop "nightly backup"
    """
    from tasks.commands import beat as call_in

    return call_in(service, heartbeat)


@app.command
def accept(
    service: Annotated[str, Parameter(help="A file in services/, without .yaml.")],
    check: Annotated[str, Parameter(help="The check's name, as alerts have it.")],
    /,
) -> int:
    """Say that what a check shows now is how it is to be: a drift, or a new speed.

    Exits 0 when it is accepted, 1 if there is nothing to accept, 2 if the file is
    wrong. The next round finds the check as it should be:

        firstwatch accept shop "security headers"
    """
    from tasks.commands import accept as say

    return say(service, check)


@app.command
def metrics(
    *,
    host: Annotated[str, Parameter(help="Where to listen; left out: 127.0.0.1.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="At which port; left out: 9700.")] = 9700,
) -> int:
    """Serve what the monitors found last, for a Prometheus to scrape.

    Names are blackbox_exporter's where it has them. Runs until Ctrl-C:

        firstwatch metrics

        firstwatch metrics --host 0.0.0.0 --port 9115
    """
    from tasks.commands import serve_metrics

    return serve_metrics(host, port)


@app.command
def demo(
    *, keep: Annotated[bool, Parameter(help="Leave everything running until Ctrl-C.", negative=())] = False
) -> int:
    """Show the main job on real parts: a good release stays, a bad one is rolled back.

    To the end, or staying up to look around in the Prefect UI:

        firstwatch demo

        firstwatch demo --keep
    """
    # Becomes the demo, rather than its parent: Ctrl-C and signals reach the one process that must tidy up.
    os.execv(sys.executable, [sys.executable, "-m", "demo", *(["--keep"] if keep else [])])


def main(arguments: Sequence[str] | None = None) -> int:
    """The console entry: runs what the words ask for and returns the exit code."""
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return USED_WRONGLY
    try:
        code = command(*bound.args, **bound.kwargs)
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else FINE


def _check(path: Path) -> tuple[int, Service | None]:
    """The exit code, and the service if its file is in order."""
    from firstwatch.spec import load

    text = _text_to_check(path)
    if isinstance(text, int):
        return text, None
    loaded = load(text, str(path), os.environ)
    for diagnostic in loaded.diagnostics:
        print(diagnostic)
    if loaded.service is None:
        return NOT_FINE, None
    print(f"{path}: fine ({_counts(loaded.service)})")
    return FINE, loaded.service


def _counts(service: Service) -> str:
    from firstwatch.spec.monitored import watched_of

    checks = len(service.smoke.checks) if service.smoke else 0
    parts = [_counted(checks, "check"), _counted(len(service.window.checkpoints), "checkpoint")]
    if canary := service.canary:
        parts.append(_counted(len(canary.metrics) + (canary.kayenta is not None), "canary metric"))
    if service.synthetic is not None:
        parts.append(_counted(sum(1 for _ in watched_of(service)), "monitored check"))
    return ", ".join(parts)


def _check_schedules(checked: Mapping[Path, tuple[int, Service | None]]) -> Iterator[int]:
    """The exit code of each prefect.yaml that lies beside the folder services/ of the files that were checked."""
    houses: dict[Path, dict[str, Service | None]] = {}
    for path, (_, service) in checked.items():
        if path.resolve().parent.name == "services":
            houses.setdefault(path.resolve().parent.parent, {})[path.stem] = service
    for house, asked in houses.items():
        if (house / "prefect.yaml").is_file():
            yield _check_prefect(Path(os.path.relpath(house / "prefect.yaml")), asked)


def _check_prefect(path: Path, asked: Mapping[str, Service | None]) -> int:
    from firstwatch.spec.deployments import Services, problems

    text = _text_to_check(path)
    if isinstance(text, int):
        return text
    others = {file.stem: None for file in (path.parent / "services").glob("*.yaml")}
    found = problems(text, str(path), Services({**others, **asked}, asked))
    for diagnostic in found:
        print(diagnostic)
    return NOT_FINE if found else FINE


def _text_to_check(path: Path) -> str | int:
    """The file's text, or the exit code where it cannot be read: one that is no text is a fault of the file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        return _complain(f"{path}: {e.strerror}")
    except UnicodeDecodeError:
        print(f"{path}:1:1: not UTF-8 text (hint: save the file as UTF-8)")
        return NOT_FINE


def _text_of(path: Path) -> str | int:
    """The file's text, or the exit code where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        return _complain(f"{path}: {e.strerror}")
    except UnicodeDecodeError:
        return _complain(f"{path}: not UTF-8 text")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _complain(message: str) -> int:
    print(f"firstwatch: {message}", file=sys.stderr)
    return USED_WRONGLY


if __name__ == "__main__":
    sys.exit(main())
