from __future__ import annotations

import asyncio
import json
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server import acceleration, loading, marks, worker
from mlship.server.accelerate import verdict

KEY = ("iris", "3")


class Model:
    platform = "test"
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1,)),))
    quick = True

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        return {"y": inputs}

    def close(self) -> None: ...


def loaded(model: Any) -> loading.Loaded:
    state = acceleration.Acceleration(verdict.Report(verdict.Mode.OFF, reason="test"))
    return loading.Loaded(model=model, example=None, acceleration=state)


def die(file: pathlib.Path, code: str) -> None:
    """A process that does ``code`` with ``crashes`` and then ends without a word."""
    script = f"""
        import os, pathlib, sys
        from mlship.server import marks
        sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
        from test_marks import Model, loaded
        crashes = marks.Crashes(pathlib.Path({str(file)!r}))
        {code}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
    assert done.returncode in {3, -signal.SIGABRT}, done.returncode


LOADING = "with crashes.while_loading(('iris', '3'), 'a'): os._exit(3)"
RUNNING = "m = loaded(type('D', (Model,), {'infer': lambda *a, **k: os.abort()})()); "
RUNNING += "crashes.watched(m, ('iris', '3'), 'a').model.infer({}, outputs=(), parameters={})"


@pytest.mark.parametrize(("code", "doing"), [(LOADING, "loading"), (RUNNING, "running")])
def test_the_next_process_knows_who_was_there(tmp_path: pathlib.Path, code: str, doing: str) -> None:
    file = tmp_path / "q"
    die(file, code)
    crashes = marks.Crashes(file)
    assert crashes.strikes(KEY, "a") == 1
    assert crashes.strikes(KEY, "another digest") == 0
    assert crashes.refusal(KEY, "a") is None
    assert json.loads(file.read_text())["models"][0]["doing"] == doing
    # Strikes outlive processes that end in order.
    crashes.close()
    die(file, code)
    crashes = marks.Crashes(file)
    refusal = crashes.refusal(KEY, "a")
    assert isinstance(refusal, errors.NotReady)
    assert f"died 2 times while it was {doing}" in str(refusal)
    assert crashes.report(KEY, "a")["quarantined"] == str(refusal)


def test_who_has_ended_its_work_is_not_blamed_and_an_end_in_order_blames_nobody(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "q"
    die(
        file,
        "crashes.watched(loaded(Model()), ('iris', '3'), 'a').model.infer({}, outputs=(), parameters={}); os._exit(3)",
    )
    assert marks.Crashes(file).strikes(KEY, "a") == 0
    die(file, "crashes.over(); " + RUNNING)
    assert marks.Crashes(file).strikes(KEY, "a") == 0


def test_a_watched_model_is_what_it_was_but_for_its_calls(tmp_path: pathlib.Path) -> None:
    crashes = marks.Crashes(tmp_path / "q")
    watched = crashes.watched(loaded(Model()), KEY, "a").model
    assert watched.infer({"x": 1}, outputs=(), parameters={}) == {"y": {"x": 1}}  # type: ignore[dict-item]
    assert watched.platform == "test"
    assert watched.quick  # type: ignore[attr-defined]
    assert not hasattr(watched, "fitted")


def test_more_calls_than_there_are_places_run_unrecorded(tmp_path: pathlib.Path) -> None:
    crashes = marks.Crashes(tmp_path / "q")

    def nested(depth: int) -> int:
        if not depth:
            return 0
        with crashes.while_loading(KEY, "a"):
            return 1 + nested(depth - 1)

    assert nested(300) == 300
    assert nested(300) == 300


def test_suspects_run_one_at_a_time_and_not_where_requests_arrive(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "q"
    die(file, "with crashes.while_loading(('a', '1'), 'x'), crashes.while_loading(('b', '1'), 'x'): os._exit(3)")
    crashes = marks.Crashes(file)
    inside, most, together = 0, 0, threading.Barrier(2)

    class Slow(Model):
        def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            for _ in range(1000):
                pass
            inside -= 1
            return {}

    watched = [crashes.watched(loaded(Slow()), (name, "1"), "x").model for name in "ab"]
    assert not any(getattr(model, "quick", False) for model in watched)

    def run(model: Any) -> None:
        together.wait(30)
        for _ in range(50):
            model.infer({}, outputs=(), parameters={})

    threads = [threading.Thread(target=run, args=(model,)) for model in watched]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1


def test_a_coroutine_model_stays_one(tmp_path: pathlib.Path) -> None:
    class Waits(Model):
        async def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:  # type: ignore[override]
            return inputs

    watched: Any = marks.Crashes(tmp_path / "q").watched(loaded(Waits()), KEY, "a").model
    assert worker.is_coroutine(watched)
    assert asyncio.run(watched.infer({"x": 1}, outputs=(), parameters={})) == {"x": 1}


def test_a_file_that_cannot_be_used_is_said_and_one_that_is_not_understood_begins_anew(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="cannot be used"):
        marks.Crashes(tmp_path / "nothing" / "q")
    (tmp_path / "q").write_text("[]")
    assert marks.Crashes(tmp_path / "q").strikes(KEY, "a") == 0


def test_without_a_file_nothing_is_recorded() -> None:
    crashes = marks.Crashes.none()
    before = loaded(Model())
    assert crashes.watched(before, KEY, "a") is before
    with crashes.while_loading(KEY, "a"):
        pass
    crashes.over()
    assert crashes.refusal(KEY, "a") is None


@pytest.mark.parametrize("torn", [b"\1\5\xff\xfe\0\0a", b"\2\3abc", b"\1\0"])
def test_a_mark_that_was_torn_blames_nobody_and_hinders_no_start(tmp_path: pathlib.Path, torn: bytes) -> None:
    file = tmp_path / "q"
    die(file, LOADING)
    with (tmp_path / "q.marks").open("r+b") as kept:
        kept.seek(192 * 2)
        kept.write(torn)
    crashes = marks.Crashes(file)
    assert crashes.strikes(KEY, "a") == 1
