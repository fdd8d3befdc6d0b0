"""The page about elasticity says what was measured, what was not, and which goals were met."""

from __future__ import annotations

import json
import pathlib

import pytest
from bench import conditions, control_loop, density, elastic, elastic_page, openloop, rolling, step, wakeups

NOW = {
    "date": "2026-01-01 00:00 UTC",
    "machine": "2 x P, 8 GiB",
    "kernel": "Linux 6",
    "load_average": 0.1,
    "busy": False,
    "versions": {"mlship": "1"},
}


def row(services: int, cpu_ms: float) -> dict[str, float]:
    names = ("p50_ms", "p99_ms", "idle_percent", "first_start_s", "start_s", "rss_mib", "kb_each")
    return {"services": services, "cpu_ms": cpu_ms} | dict.fromkeys(names, 1.0)


def test_a_measurement_goes_to_a_file_and_to_the_page(tmp_path: pathlib.Path):
    conditions.keep(tmp_path / "control_loop.json", "control_loop", NOW, rows=[row(10, 2.0), row(10000, 5.0)])
    answers = [wakeups.Answer(0.1, 200), wakeups.Answer(0.2, 200), wakeups.Answer(1.0, 503, "busy /home/somebody/x")]
    conditions.keep(tmp_path / "wakeups.json", "wakeups", NOW, sklearn=wakeups.figures(answers))
    page = elastic_page.page(elastic_page.read(tmp_path))
    assert "| wake sklearn, p50, at most 150 ms | 100 ms | yes |" in page
    assert "| wake sklearn, p99, at most 400 ms | 200 ms | yes |" in page
    assert "| wake onnx, p50, at most 150 ms | not measured | no |" in page
    assert "| processor time of a change, 10000 services over 10, at most 2 | 2.50 | **no** |" in page
    assert "1 x 503 busy" in page
    assert "/home/somebody" not in page
    assert "2026-01-01 00:00 UTC: 2 x P" in page


def test_nothing_measured_is_no_page(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elastic, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="nothing in"):
        elastic.main(["--report", "20260101-000000"])


def test_a_report_is_published_where_the_page_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(elastic, "RESULTS", tmp_path)
    monkeypatch.setattr(elastic, "PAGE", tmp_path / "elastic.md")
    conditions.keep(tmp_path / "x" / "control_loop.json", "control_loop", NOW, rows=[row(10, 2.0)])
    assert elastic.main(["--report", "x", "--publish"]) == 0
    assert (tmp_path / "elastic.md").read_text() == elastic_page.page(elastic_page.read(tmp_path / "x"))
    assert "# Elasticity" in capsys.readouterr().out


def test_every_table_is_made_of_what_its_measurement_keeps():
    figures = dict.fromkeys(("p50_ms", "p99_ms", "max_ms"), 1.0) | {"requests": 5}
    failure = {"kind": "quick", "status": 503, "said": "no", "at": 1.0, "after": "update 3", "seconds": 0.1}
    part = {"requests": {"quick": figures}, "steps": 3, "step_s": 0.5, "failed": 1, "failures": [failure]}
    assert "1 x quick: 503 no" in rolling.table({"rolling": part})
    once = {"first_s": None, "all_s": 1.5, "replicas": 3, "failed": 0.0, "p99_ms": 2.0}
    assert "never" in step.table({"steps": [once], "first_s": None})
    assert "10000" in control_loop.table([row(10000, 1.0)])
    beside = figures | {"rate": 20.0, "loads": 7, "evictions": 3, "p99_ms": 1.5}
    pool = dict.fromkeys(("ready_seconds", "load_all_seconds", "measured", "bytes_per_model"), 1.0)
    pool |= dict.fromkeys(("first_use_p50_ms", "first_use_p99_ms", "again_p50_ms", "again_p99_ms"), 1.0)
    hot = {"hot_alone": figures, "hot_beside_loaded": beside, "hot_beside_fewer_loads": [], "hot_beside_loads": beside}
    table = density.table(pool | hot | {"models": 10, "registered": 0})
    assert "beside 20 loads/s (7 loads, 3 evictions)" in table
    assert table.endswith(" 1.50")


def test_conditions_tell_a_busy_machine():
    now = conditions.now()
    assert json.dumps(now)
    assert "WARNING" in conditions.line({**now, "busy": True})
    assert "WARNING" not in conditions.line({**now, "busy": False})


def test_traffic_names_the_step_in_which_a_request_failed():
    load = openloop.Load("http://x/", b"", rate=1.0, seconds=1.0, connections=1)
    traffic = rolling.Traffic({"quick": load})
    traffic.step("update 7")
    due = traffic._steps[-1][0] + 0.001
    load.outcomes = [openloop.Outcome(due, due, due + 1, 503, said="why"), openloop.Outcome(due, due, due + 1, 200)]
    load.due = 3
    failed, missing = traffic.failed()
    assert (failed.after, failed.status, failed.said) == ("update 7", 503, "why")
    assert missing.said == "1 without any answer"
