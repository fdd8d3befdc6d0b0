"""One process by itself; what its keeper makes of it is in test_process_pool."""

from __future__ import annotations

import os
import pathlib
import signal
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest

from mlship import errors
from mlship.server import calls, loading, process_proxy, process_runner

MODEL = """
    import os

    class Model:
        def predict(self, x):
            if x[0] == 1:
                os._exit(7)
            return x + 1

        def close(self):
            import pathlib
            pathlib.Path(__file__).with_name("closed").touch()
"""


@pytest.fixture
def plan(tmp_path: pathlib.Path) -> process_proxy.Plan:
    (tmp_path / "model.py").write_text(textwrap.dedent(MODEL))
    source = loading.Source(name="m", version="1", path=tmp_path)
    return process_proxy.Plan.of("m", process_runner.hello(source), 1, cpus=2)


@pytest.fixture
def process(plan: process_proxy.Plan) -> Iterator[process_proxy.Process]:
    made = process_proxy.Process(plan)
    made.begin()
    yield made
    made.kill()
    made.end()


def call(value: float) -> calls.Call:
    return calls.Call(inputs={"x": np.asarray([value])})


def test_it_answers_until_it_is_told_to_end(process: process_proxy.Process, tmp_path: pathlib.Path) -> None:
    assert not process.busy
    (result,) = process.run([call(3)])
    assert result.outputs is not None
    assert [data.tolist() for data in result.outputs.values()] == [[4.0]]
    assert process.answered
    process.end()
    assert not process.running()
    assert (tmp_path / "closed").exists(), "the model is closed by its own process"


def test_how_it_ended_is_told_with_its_id(process: process_proxy.Process) -> None:
    (result,) = process.run([call(1)])
    assert isinstance(result.error, errors.ModelError)
    assert f"the process {process.pid} that runs it ended during a call: exit code 7" in str(result.error)
    assert not process.running()
    assert not process.answered


def test_what_is_sent_to_a_process_that_has_ended_fails(process: process_proxy.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    for _ in range(2):
        (result,) = process.run([call(3)])
        assert isinstance(result.error, errors.ModelError)
        assert "killed by SIGKILL" in str(result.error)


def test_a_machine_that_cannot_start_processes_says_so(
    plan: process_proxy.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_proxy.sys, "executable", "/nowhere/python")
    with pytest.raises(errors.BackendError, match="no process could be started"):
        process_proxy.Process(plan)


def test_processors_are_shared_evenly() -> None:
    assert [process_proxy.Plan.of("m", {}, count, cpus=8).threads for count in (1, 3, 8, 20)] == [8, 2, 1, 1]
