import json
import os
import select
import subprocess

import pytest
from bench import fork


def test_the_table_has_a_line_for_each_framework():
    one = {
        "forked_ms": [50.0, 70.0], "forked_median_ms": 60.0, "forked_cpu_ms": 40.0, "cold_median_ms": 1234.0,
        "private_mib": 14.5, "pss_mib": 40.0, "started": {},
    }  # fmt: skip
    lines = fork.table({"sklearn": one, "onnx": one | {"cold_median_ms": None}}).splitlines()
    assert lines[1].split() == ["sklearn", "60", "ms", "70", "ms", "40", "ms", "1234", "ms", "14.5", "MiB", "40", "MiB"]
    assert lines[2].split() == ["onnx", "60", "ms", "70", "ms", "40", "ms", "14.5", "MiB", "40", "MiB"]


def test_the_phases_are_those_of_the_last_forked_start(tmp_path):
    starts = [
        {"event": "started", "how": how, "load": load} for how, load in (("forked", 1), ("forked", 2), ("cold", 3))
    ]
    (tmp_path / "log").write_text("\n".join(["no json", *map(json.dumps, starts), '{"event": "draining"}']))
    assert fork._last_started(tmp_path / "log") == {"load": 2}


def test_a_process_is_measured_and_ended():
    child = subprocess.Popen(["sleep", "600"])
    try:
        assert fork._cpu(child.pid) >= 0
        assert 0 < fork._memory(child.pid)["private"] <= fork._memory(child.pid)["rss"]
        watch = os.pidfd_open(child.pid)
        fork._end(child.pid)
        assert select.select([watch], [], [], 0)[0]
        os.close(watch)
    finally:
        child.kill()
        child.wait()


def test_an_answer_that_is_an_error_is_none(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        fork.ask(tmp_path / "nobody", {})
