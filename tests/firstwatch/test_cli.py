"""The command line as scripts use it: what it prints, and the exit codes they can trust."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firstwatch.spec.deployments import pasted

ROOT = Path(__file__).parents[2]
FAULTY = "service: shop\nbase_url: http://x\nmetrics: {scrape: http://x/m}\nsmok: 1\nwindow: [{at: 1m, name: a}]\n"


def firstwatch(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "firstwatch.cli", *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in ("SHOP_URL", "PROMETHEUS_URL")}
    environment = {**kept, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_a_fine_file() -> None:
    done = firstwatch("check")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "services/shop.yaml: fine (3 checks, 5 checkpoints, 1 canary metric, 5 monitored checks)\n",
        "",
    )


def test_every_problem_of_every_file_is_printed(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/a.yaml").write_text(FAULTY)
    (tmp_path / "services/b.yaml").write_text("- 1\n")
    shutil.copy(ROOT / "services/shop.yaml", tmp_path / "services/c.yaml")
    done = firstwatch("check", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "services/a.yaml:4:1: unknown key `smok` (hint: did you mean smoke?)",
        "services/a.yaml:5:10: the checkpoint 'a' has neither of signal and query "
        "(hint: give a signal (errors, latency, memory, db_pool), or a query with its expect)",
        "services/b.yaml:1:1: a service file is a mapping (hint: start it with service: NAME)",
        "services/c.yaml: fine (3 checks, 5 checkpoints, 1 canary metric, 5 monitored checks)",
    ]


def house(tmp_path: Path, prefect: str) -> Path:
    """A folder with the shop's service file, another one, and a prefect.yaml."""
    (tmp_path / "services").mkdir()
    shutil.copy(ROOT / "services/shop.yaml", tmp_path / "services/shop.yaml")
    (tmp_path / "services/other.yaml").write_text(
        "service: other\nbase_url: http://x\nmetrics: {scrape: http://x/m}\n"
        "synthetic: {checks: [{name: a, get: /, expect: [status == 200]}]}\n"
    )
    (tmp_path / "prefect.yaml").write_text(prefect)
    return tmp_path


def test_the_schedules_beside_the_service_files_are_checked_too(tmp_path: Path) -> None:
    prefect = (ROOT / "prefect.yaml").read_text()
    home = house(tmp_path, prefect + "\n  - {nam: production}\n")
    line = next(i for i, text in enumerate(prefect.splitlines(), 1) if text.strip().startswith("schedules:"))
    done = firstwatch("check", cwd=home)
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:] == [
        f"prefect.yaml:{line}:5: other is to be monitored, and has no schedule (hint: add to schedules: "
        f"- {pasted('other', 300)})",
        f"prefect.yaml:{len(prefect.splitlines()) + 2}:6: unknown key `nam`: Prefect leaves it out "
        "(hint: did you mean name?)",
    ]
    (home / "prefect.yaml").write_text(prefect)
    assert firstwatch("check", "services/shop.yaml", cwd=home).returncode == 0  # the other was not asked for
    done = firstwatch("check", "other.yaml", cwd=home / "services")
    assert done.returncode == 1 and f"\n../prefect.yaml:{line}:5: other is to be" in done.stdout


def test_a_file_elsewhere_has_nothing_to_do_with_the_schedules_here(tmp_path: Path) -> None:
    home = house(tmp_path, "deploymens: []\n")
    shutil.copy(ROOT / "services/shop.yaml", home / "shop.yaml")
    assert firstwatch("check", "shop.yaml", cwd=home).returncode == 0
    assert firstwatch("check", "services/shop.yaml", cwd=home).returncode == 1


def test_the_environment_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("service: a\nbase_url: ${SOMEWHERE}\nmetrics: {scrape: http://x/m}\n")
    assert "the environment has no SOMEWHERE" in firstwatch("check", "a.yaml", cwd=tmp_path).stdout
    assert firstwatch("check", "a.yaml", cwd=tmp_path, SOMEWHERE="http://x").returncode == 0


@pytest.mark.parametrize("arguments", [["check", "nope.yaml"], ["check", "--bogus"], ["bogus"], ["check", "services"]])
def test_wrong_usage_exits_2_and_says_so_on_stderr(arguments: list[str]) -> None:
    done = firstwatch(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_no_service_files_at_all_is_not_fine(tmp_path: Path) -> None:
    assert firstwatch("check", cwd=tmp_path).returncode == 2


def test_a_file_that_is_missing_outweighs_one_that_is_faulty(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FAULTY)
    (tmp_path / "latin.yaml").write_bytes(b"service: caf\xe9\n")
    assert firstwatch("check", "nope.yaml", "a.yaml", cwd=tmp_path).returncode == 2
    done = firstwatch("check", "latin.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "latin.yaml:1:1: not UTF-8 text (hint: save the file as UTF-8)\n")


def test_the_schema_is_printed() -> None:
    done = firstwatch("check", "--schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads((ROOT / "docs/service-file.schema.json").read_text())


@pytest.mark.parametrize("command", ["check", "setup", "demo"])
def test_each_command_has_examples(command: str) -> None:
    done = firstwatch(command, "--help")
    assert done.returncode == 0
    assert f"\n    firstwatch {command}" in done.stdout


def test_checking_is_quick_and_imports_nothing_that_is_slow() -> None:
    heavy = ["prefect", "numpy", "scipy", "httpx", "typer", "asyncio"]
    code = (
        f"import sys; from firstwatch.cli import main; main(['check']); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    firstwatch("check")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time, which is what it costs; wall time is the same on a machine that does nothing else
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
