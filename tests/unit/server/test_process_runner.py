"""Real processes, through the loader and the runner; most of what can go wrong with them is taken here."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.server import calls, loading, process_runner, worker

MODEL = """
    import os
    import pathlib
    import time

    import numpy as np

    from mlship import errors

    class Model:
        joins = True
        signature = {
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
            "outputs": [
                {"name": "y", "datatype": "FP64", "shape": [-1]},
                {"name": "pid", "datatype": "INT64", "shape": [-1]},
            ],
        }

        def predict(self, inputs, parameters=None):
            x = inputs["x"]
            if (x == 13).any():
                os.kill(os.getpid(), 9)
            if (x == 14).any():
                raise ValueError("fourteen")
            if (x == 15).any():
                raise errors.SpecError("fifteen is refused", reason=errors.Reason.UNSUPPORTED)
            if (x == 16).any():
                while True:
                    time.sleep(0.01)
            if (x == 17).any():
                raise SystemExit(3)
            if (x == 18).any():
                self.kept = x
            if (x == 19).any():
                return {"y": self.kept, "pid": np.full(len(self.kept), os.getpid())}
            return {"y": x * 2, "pid": np.full(len(x), os.getpid())}
"""

DEADLINE = 60.0
Load = Callable[..., process_runner.Spread]


def write(folder: pathlib.Path, text: str) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Iterator[Load]:
    """Loads a model into processes, off any loop, and ends them."""
    found: list[process_runner.Spread] = []

    def begin(text: str = MODEL, *, processes: int | None = 1) -> process_runner.Spread:
        source = loading.Source(name="m", version="1", path=write(tmp_path / "m", text), processes=processes)
        loaded = loading.load(source, open_model=loading.from_disk, run_coroutine=asyncio.run)
        assert isinstance(loaded.model, process_runner.Spread)
        found.append(loaded.model)
        return loaded.model

    yield begin
    for model in found:
        assert model.pool.close()
        assert model.pool.pids == []


def call(*values: float, **extras: Any) -> calls.Call:
    return calls.Call(inputs={"x": np.asarray(values, np.float64)}, **extras)


async def results(model: process_runner.Spread, *together: calls.Call) -> list[calls.Result]:
    future: asyncio.Future[Sequence[calls.Result]] = asyncio.get_running_loop().create_future()
    runner = worker.runner(model, workers=None, private=None, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    here = threading.current_thread()

    def done(found: Sequence[calls.Result]) -> None:
        assert threading.current_thread() is here
        future.set_result(found)

    runner.start(together, done)
    async with asyncio.timeout(DEADLINE):
        return list(await future)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_calls_run_in_other_processes(load: Load) -> None:
    model = load(processes=2)
    assert len(set(model.pool.pids)) == 2
    (result,) = await results(model, call(1, 2))
    assert result.outputs is not None
    assert result.outputs["y"].tolist() == [2, 4]
    assert result.outputs["pid"][0] in model.pool.pids
    assert result.nanoseconds > 0


async def test_the_class_says_how_many_and_the_flag_wins(load: Load, tmp_path: pathlib.Path) -> None:
    text = MODEL.replace("joins = True", "joins = True\n        processes = 2")
    model = load(text, processes=None)
    runner = worker.runner(model, workers=None, private=None, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    assert runner.slots == 2
    source = loading.Source(name="m", version="1", path=write(tmp_path / "flag", text), processes=0)
    plain = loading.load(source, open_model=loading.from_disk, run_coroutine=asyncio.run).model
    assert not isinstance(plain, process_runner.Spread)
    plain.close()


def test_a_model_of_coroutines_keeps_its_loop(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a", "class Model:\n    async def predict(self, inputs):\n        return inputs\n")
    source = loading.Source(name="m", version="1", path=path, processes=2)
    model = loading.load(source, open_model=loading.from_disk, run_coroutine=asyncio.run).model
    assert worker.is_coroutine(model)
    assert "model runs without processes" in caplog.text
    model.close()


async def test_large_arrays_go_and_come_back(load: Load) -> None:
    model = load()
    for size in (10, 100_000, 20, 1_000_000, 100_000):
        values = np.arange(size, dtype=np.float64) + 100
        (result,) = await results(model, calls.Call(inputs={"x": values}))
        assert result.outputs is not None
        np.testing.assert_array_equal(result.outputs["y"], values * 2)


async def test_what_a_model_keeps_of_a_call_does_not_change(load: Load) -> None:
    model = load()
    kept = np.full(50_000, 18.0)
    await results(model, calls.Call(inputs={"x": kept}))
    await results(model, calls.Call(inputs={"x": np.full(60_000, 1.0)}))
    (result,) = await results(model, call(19))
    assert result.outputs is not None
    np.testing.assert_array_equal(result.outputs["y"], kept)


async def test_errors_are_those_of_a_thread(load: Load) -> None:
    model = load()
    (raised,) = await results(model, call(14))
    assert isinstance(raised.error, errors.ModelError)
    assert "ValueError: fourteen" in str(raised.error)
    (refused,) = await results(model, call(15))
    assert isinstance(refused.error, errors.SpecError)
    assert refused.error.reason is errors.Reason.UNSUPPORTED
    assert refused.error.message == "fifteen is refused"
    (left,) = await results(model, call(17))
    assert isinstance(left.error, errors.ModelError)
    assert "SystemExit" in str(left.error)
    (fine,) = await results(model, call(1))
    assert fine.outputs is not None


async def test_calls_are_joined_and_abandoned_ones_left_out(load: Load) -> None:
    model = load()
    found = await results(model, call(1), call(2, 3, abandoned=True), call(4))
    assert [None if one.outputs is None else one.outputs["y"].tolist() for one in found] == [[2], None, [8]]
    failed = await results(model, call(1), call(14))
    assert [one.again for one in failed] == [calls.Again.FAILED] * 2


async def test_a_process_that_dies_fails_its_call_and_is_replaced(load: Load) -> None:
    model = load(processes=2)
    before = set(model.pool.pids)
    (died,) = await results(model, call(13))
    assert isinstance(died.error, errors.ModelError)
    assert "SIGKILL" in str(died.error)
    assert any(str(pid) in str(died.error) for pid in before)
    (fine,) = await results(model, call(1))
    assert fine.outputs is not None
    until(lambda: len(model.pool.pids) == 2)
    assert len(before & set(model.pool.pids)) == 1


async def test_a_process_that_dies_under_a_join_lets_each_call_run_again(load: Load) -> None:
    model = load()
    found = await results(model, call(1), call(13))
    assert [one.again for one in found] == [calls.Again.FAILED] * 2
    (fine,) = await results(model, call(1))
    assert fine.outputs is not None


async def test_a_process_that_dies_while_idle_costs_nobody_anything(load: Load) -> None:
    model = load()
    (pid,) = model.pool.pids
    os.kill(pid, signal.SIGKILL)
    # From here on it can be known.
    until(lambda: pid not in model.pool.pids)
    (fine,) = await results(model, call(1))
    assert fine.outputs is not None
    assert fine.outputs["pid"][0] != pid


async def test_closing_ends_processes_that_never_answer(load: Load) -> None:
    model = load()
    (pid,) = model.pool.pids
    stuck = asyncio.create_task(results(model, call(16)))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(model.pool.close)
    (result,) = await stuck
    assert result.error is not None
    assert not alive(pid)
    (refused,) = await results(model, call(1))
    assert isinstance(refused.error, errors.NotReady)


async def test_a_call_that_is_taken_while_the_pool_closes_is_not_begun(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load()
    pool, (pid,) = model.pool, model.pool.pids
    asked, taken, go_on = threading.Event(), threading.Event(), threading.Event()
    next_job = pool.next_job

    def held(seconds: float) -> Any:
        asked.set()
        job = next_job(seconds)
        if job is not None:
            taken.set()
            go_on.wait(60)
        return job

    monkeypatch.setattr(pool, "next_job", held)
    assert await asyncio.to_thread(asked.wait, 60)
    stuck = asyncio.create_task(results(model, call(16)))
    assert await asyncio.to_thread(taken.wait, 60)
    closing = asyncio.create_task(asyncio.to_thread(pool.close))
    async with asyncio.timeout(60):
        while pool._jobs.empty():  # the last thing before it waits for those who work
            await asyncio.sleep(0.001)
    go_on.set()
    assert await closing
    (result,) = await stuck
    assert isinstance(result.error, errors.NotReady)
    assert not alive(pid)


def test_what_the_process_cannot_load_is_the_load_error(load: Load, tmp_path: pathlib.Path) -> None:
    text = f"""
        import os

        class Model:
            def load(self):
                if os.getpid() != {os.getpid()}:
                    raise ValueError("not here")

            def predict(self, x):
                return x
    """
    with pytest.raises(errors.ModelError, match="ValueError: not here"):
        load(text)


def test_a_process_that_dies_while_it_loads_is_the_load_error(load: Load) -> None:
    text = f"""
        import os

        class Model:
            def load(self):
                if os.getpid() != {os.getpid()}:
                    os._exit(7)

            def predict(self, x):
                return x
    """
    with pytest.raises(errors.ModelError, match="exit code 7"):
        load(text)


def test_the_model_waits_for_its_answer_when_asked_directly(load: Load) -> None:
    model = load()
    found = model.infer({"x": np.asarray([3.0])}, outputs=("y",), parameters={})
    assert {name: data.tolist() for name, data in found.items()} == {"y": [6.0]}
    with pytest.raises(errors.SpecError, match="fifteen"):
        model.infer({"x": np.asarray([15.0])}, outputs=(), parameters={})
