"""One round by hand: what it prints, what it writes, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tasks.once import once
from tests.support.answering import Said, answering

OK = ["status == 200"]


def written(folder: Path, url: str, synthetic: dict[str, Any], **given: Any) -> str:
    """A service file; its path."""
    path = folder / "shop.yaml"
    path.write_text(json.dumps({"service": "shop", "base_url": url, "synthetic": synthetic, **given}))
    return str(path)


def check(name: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "get": f"/{name}", "expect": OK, "retry_delay": "200ms", **given}


def test_each_check_is_told_when_it_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = tmp_path / "round.xml"
    with answering(Said("{}")) as server:
        wrong = check("stock", expect=["status == 204"])
        file = written(tmp_path, server.url, {"checks": [wrong, check("health")], "drift": [{"name": "d", "get": "/"}]})
        assert once(service=file, once=True, junit=junit) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines[:2]] == ["🟢 up       health", "🔴 down     stock"]
    assert lines[2].startswith("⚪ left out d:")
    assert lines[3] == "1 of 2 checks not up: stock down: status == 204: status is 200"
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")


def test_all_up_is_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(Said("{}")) as server:
        assert once(service=written(tmp_path, server.url, {"checks": [check("health")]}), once=True) == 0
    assert capsys.readouterr().out.endswith("\n1 check up\n")


def test_a_place_that_cannot_reach_its_reference_has_no_vote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(Said("{}")) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        places = {"names": ["eu"], "reference": f"http://127.0.0.1:{port}/"}
        file = written(tmp_path, server.url, {"checks": [check("health")], "locations": places})
        assert once(service=file, once=True, location="eu") == 1
    assert "unknown" in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize(
    ("synthetic", "given", "location", "said"),
    [
        (None, {"smoke": {"checks": [check("a")]}}, "", "the service file of shop has no synthetic section"),
        ({"checks": [check("a")], "locations": ["eu"]}, {}, "mars", "not monitored from a location 'mars'; it has eu"),
        ({"checks": [check("a", expect=["statsu == 1"])]}, {}, "", "unknown name statsu"),
        ({"checks": [check("a")]}, {"rules": {"ca_file": "/nope/ca.pem"}}, "", "/nope/ca.pem: No such file"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    synthetic: dict[str, Any],
    given: dict[str, Any],
    location: str,
    said: str,
) -> None:
    file = written(tmp_path, "http://127.0.0.1:1", synthetic, **given)
    if synthetic is None:
        metrics = {"scrape": "http://127.0.0.1:1/metrics"}
        Path(file).write_text(json.dumps({"service": "shop", "base_url": "http://a", "metrics": metrics, **given}))
    assert once(service=file, once=True, location=location) == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("firstwatch: ") and "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("service", ["/nope/shop.yaml", "/dev"])
def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str], service: str) -> None:
    assert once(service=service, once=True) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told_before_the_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(Said("{}")) as server:
        file = written(tmp_path, server.url, {"checks": [check("health")]})
        assert once(service=file, once=True, junit=tmp_path / "none" / "round.xml") == 2
        assert server.seen == []
    assert f"{tmp_path}/none/round.xml: No such file or directory" in capsys.readouterr().err


def test_ctrl_c_in_mid_round(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = written(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", {"checks": [check("health")]})
        words = [sys.executable, "-m", "flows.synthetic", "--service", file, "--once"]
        environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        silent.settimeout(60)
        silent.accept()
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=20)
    assert (running.returncode, told) == (130, ("", ""))
