"""A proof made beside the server, by a real process."""

from __future__ import annotations

import asyncio
import pathlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sklearn import linear_model

import accelerated
from mlship.server import acceleration, example, loading, prover, worker
from mlship.server.accelerate import verdict


@pytest.fixture
def loader() -> Iterator[worker.Workers]:
    made = worker.Workers(1)
    yield made
    assert made.close(10.0)


@pytest.fixture
def source(tmp_path: pathlib.Path) -> loading.Source:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(linear_model.Ridge().fit(*accelerated.diabetes())))
    return loading.Source(name="m", version="1", path=path, accelerate=verdict.Mode.AUTO, proofs=tmp_path / "proofs")


def begun(source: loading.Source) -> acceleration.Acceleration:
    model = loading.from_disk(source)
    return acceleration.begun(
        model, path=source.path, mode=source.accelerate, kept=source.proofs, row=example.of(model)
    )[1]


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(prover, "command", lambda *_: [sys.executable, "-c", program])


async def test_a_proof_is_made_and_put_in_place(source: loading.Source, loader: worker.Workers) -> None:
    state = begun(source)
    await prover.Prover(after=0).follow(source, state, loader=loader)
    # Whether it is faster is the machine's business; that it was judged is ours.
    assert state.report.kept
    assert state.report.rows > 512


async def test_without_a_folder_it_is_kept_for_this_server(source: loading.Source, loader: worker.Workers) -> None:
    alone = loading.Source(name="m", version="1", path=source.path, accelerate=verdict.Mode.AUTO)
    made = prover.Prover(after=0)
    state = begun(alone)
    await made.follow(alone, state, loader=loader)
    assert state.report.kept
    folder = made.folder(alone)
    assert list(folder.glob("*.proof"))
    made.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('first line\\nno such converter')", "no such converter"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the proof ended with exit code -9"),
        ("", "its proof could not be read back"),
    ],
)
async def test_why_there_is_no_proof(
    source: loading.Source, loader: worker.Workers, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    runs(monkeypatch, program)
    state = begun(source)
    await prover.Prover(after=0).follow(source, state, loader=loader)
    assert (state.report.state, state.report.reason) == ("original", reason)


async def test_a_program_that_is_not_there(
    source: loading.Source, loader: worker.Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prover, "command", lambda *_: ["/no/such/program"])
    state = begun(source)
    await prover.Prover(after=0).follow(source, state, loader=loader)
    assert state.report.reason == "the proof could not be started: No such file or directory"


async def test_no_place_for_proofs(
    source: loading.Source, loader: worker.Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prover.tempfile, "TemporaryDirectory", full)
    state = begun(source)
    alone = loading.Source(name="m", version="1", path=source.path, accelerate=verdict.Mode.AUTO)
    await prover.Prover(after=0).follow(alone, state, loader=loader)
    assert state.report.reason == "there is no place for its proof: No space left on device"


ENDLESS = "import pathlib, sys, time; pathlib.Path({path!r}).write_text('x'); time.sleep(1000)"


async def test_one_that_takes_too_long_is_ended(
    source: loading.Source, loader: worker.Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = prover._start
    monkeypatch.setattr(prover, "_start", lambda line: started.append(start(line)) or started[-1])
    runs(monkeypatch, "import time; time.sleep(1000)")
    state = begun(source)
    await prover.Prover(after=0, deadline=0.2).follow(source, state, loader=loader)
    assert state.report.reason == "the proof was given up after 0.2 s"
    assert {await asyncio.to_thread(child.wait, 30) for child in started} <= {-9}


async def test_one_that_is_given_up_while_it_is_being_started_is_ended(
    source: loading.Source, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    go = threading.Event()
    start = prover._start

    def slowly(line: list[str]) -> subprocess.Popen[bytes]:
        assert go.wait(30)
        started.append(start(line))
        return started[-1]

    monkeypatch.setattr(prover, "_start", slowly)
    runs(monkeypatch, "import time; time.sleep(1000)")
    said = await prover.Prover(after=0, deadline=0.05).prove(source, tmp_path)
    assert said == "the proof was given up after 0.05 s"
    go.set()
    async with asyncio.timeout(30):
        while not started or started[0].returncode is None:
            await asyncio.sleep(0.01)
    assert started[0].returncode == -9


async def test_a_server_that_ends_takes_its_proof_along(
    source: loading.Source, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_at = tmp_path / "begun"
    started: list[subprocess.Popen[bytes]] = []
    start = prover._start
    monkeypatch.setattr(prover, "_start", lambda line: started.append(start(line)) or started[-1])
    runs(monkeypatch, ENDLESS.format(path=str(begun_at)))
    task = asyncio.ensure_future(prover.Prover(after=0).prove(source, tmp_path))
    async with asyncio.timeout(60):
        while not begun_at.exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await asyncio.to_thread(child.wait, 30) for child in started] == [-9]


def test_the_command_line_says_it_all(source: loading.Source, monkeypatch: pytest.MonkeyPatch) -> None:
    full = loading.Source(
        name="n",
        version="3",
        path=source.path,
        format="sklearn",
        options={"threads": "2"},
        accelerate=verdict.Mode.EXACT,
    )
    monkeypatch.setattr(sys, "path", [str(pathlib.Path.cwd())])
    line = prover.command(full, pathlib.Path("/proofs"))
    assert line[1:] == [
        *("-m", "mlship.server.proving"),
        *("--model-path", str(source.path), "--model-name", "n", "--model-version", "3"),
        *("--model-format", "sklearn", "--model-option", "threads=2"),
        *("--accelerate", "exact", "--proof-cache", "/proofs"),
    ]
    monkeypatch.setattr(sys, "path", ["/somewhere"])
    assert prover.command(source, pathlib.Path("/proofs"))[1] == "-P"
