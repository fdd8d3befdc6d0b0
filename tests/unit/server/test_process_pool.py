"""How keepers treat processes: patience, pauses, and the end. What callers see of it is in test_process_runner."""

from __future__ import annotations

import dataclasses
import pathlib
import queue
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from mlship import errors
from mlship.server import calls, loading, process_pool, process_proxy, process_runner

DEADLINE = 60.0
MODEL = """
    import os
    import pathlib
    import time

    HERE = pathlib.Path(__file__).parent

    class Model:
        def load(self):
            if (HERE / "broken").exists():
                raise ValueError("broken meanwhile")
            while (HERE / "slow").exists():
                (HERE / "loading").touch()
                time.sleep(0.01)

        def predict(self, x):
            if x[0] == 1:
                (HERE / "begun").touch()
                while True:
                    time.sleep(0.01)
            if x[0] == 2:
                os._exit(3)
            return x
"""
Make = Callable[..., process_pool.Pool]


@pytest.fixture
def make(tmp_path: pathlib.Path) -> Iterator[Make]:
    made: list[process_pool.Pool] = []
    (tmp_path / "model.py").write_text(textwrap.dedent(MODEL))

    def begin(count: int = 1, **extras: float) -> process_pool.Pool:
        source = loading.Source(name="m", version="1", path=tmp_path)
        plan = process_proxy.Plan.of("m", process_runner.hello(source), count, cpus=2)
        made.append(process_pool.Pool(dataclasses.replace(plan, **extras)))
        return made[-1]

    yield begin
    for pool in made:
        assert pool.close()


def call(value: float) -> calls.Call:
    return calls.Call(inputs={"x": np.asarray([value])})


class Answers:
    def __init__(self) -> None:
        self._found: queue.Queue[calls.Result] = queue.Queue()

    def deliver(self, results: Sequence[calls.Result]) -> None:
        for result in results:
            self._found.put(result)

    def next(self) -> calls.Result:
        return self._found.get(timeout=DEADLINE)


def ask(pool: process_pool.Pool, one: calls.Call) -> calls.Result:
    answers = Answers()
    pool.submit([one], answers.deliver)
    return answers.next()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_call_that_nobody_waits_for_ends_with_its_process(make: Make, tmp_path: pathlib.Path) -> None:
    pool = make(patience=0.05)
    pool.start()
    (pid,) = pool.pids
    answers, endless = Answers(), call(1)
    pool.submit([endless], answers.deliver)
    until((tmp_path / "begun").exists)
    assert pool.pids == [pid]
    endless.abandoned = True
    ended = answers.next()
    assert isinstance(ended.error, errors.ModelError)
    assert "after the last caller had left" in str(ended.error)
    assert ask(pool, call(0)).outputs is not None
    assert pool.pids != [pid]


def test_a_process_that_takes_its_time_to_go_gets_no_further_call(
    make: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine does not tell of its end yet, although the connection to it has gone.
    monkeypatch.setattr(subprocess.Popen, "poll", lambda self: None)
    pool = make(patience=0.05)
    pool.start()
    answers, endless = Answers(), call(1)
    pool.submit([endless], answers.deliver)
    until((tmp_path / "begun").exists)
    endless.abandoned = True
    assert isinstance(answers.next().error, errors.ModelError)
    assert ask(pool, call(0)).outputs is not None


def test_while_no_process_can_be_started_calls_are_refused_with_the_reason(make: Make, tmp_path: pathlib.Path) -> None:
    pool = make(last_pause=0.1)
    pool.start()
    assert ask(pool, call(0)).outputs is not None
    (tmp_path / "broken").touch()
    answers = Answers()
    # The second waits for the process that will not come.
    pool.submit([call(2)], answers.deliver)
    pool.submit([call(0)], answers.deliver)
    first, second = answers.next(), answers.next()
    assert "exit code 3" in str(first.error)
    assert "broken meanwhile" in str(second.error)
    assert "broken meanwhile" in str(ask(pool, call(0)).error)
    (tmp_path / "broken").unlink()
    until(lambda: ask(pool, call(0)).outputs is not None)


def test_calls_that_wait_when_the_pool_closes_are_told(make: Make, tmp_path: pathlib.Path) -> None:
    pool = make()
    pool.start()
    answers = Answers()
    pool.submit([call(1)], answers.deliver)
    until((tmp_path / "begun").exists)
    pool.submit([call(0)], answers.deliver)
    assert pool.close()
    found = {type(answers.next().error) for _ in range(2)}
    assert found == {errors.NotReady, errors.ModelError}
    assert pool.pids == []


def test_closing_ends_all_while_one_is_being_replaced(make: Make, tmp_path: pathlib.Path) -> None:
    pool = make(2)
    pool.start()
    (tmp_path / "slow").touch()
    assert ask(pool, call(2)).error is not None
    until((tmp_path / "loading").exists)
    assert pool.close()
    assert pool.pids == []


def test_a_keeper_that_fails_after_the_end_leaves_the_others_their_word(make: Make) -> None:
    pool = make(2)
    pool.close()
    pool.failed()
    assert [pool.next_job(1) for _ in range(2)] == [None, None]


def test_a_fault_of_the_server_itself_is_told_by_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: process_proxy.Plan) -> None:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(process_proxy, "_started", fail)
    with pytest.raises(errors.BackendError, match="no more threads"):
        make().start()
