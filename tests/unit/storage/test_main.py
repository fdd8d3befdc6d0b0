from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from mlship.storage import main, progress


def test_prints_what_was_fetched(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.pkl").write_bytes(b"model")
    monkeypatch.chdir(tmp_path)
    assert main.main(["m.pkl", "--cache", str(tmp_path / "cache")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert pathlib.Path(told["path"]).read_bytes() == b"model"
    assert told["size"] == 5


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [("/none.pkl", 1, "there is no /none.pkl"), ("s3://b/m", 1, "cannot be fetched yet"), ("none", 1, "absolute path")],
)
def test_failures_are_one_sentence_and_a_status(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, status: int, told: str
) -> None:
    assert main.main([text, "--cache", str(tmp_path / "cache")]) == status
    assert told in capsys.readouterr().err


def test_the_machines_trouble_has_its_own_status(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert main.main([str(tmp_path / "file"), "--cache", str(tmp_path / "file")]) == 3
    assert "cannot be used" in capsys.readouterr().err


def test_limits_and_volumes_are_options(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "volumes" / "claim").mkdir(parents=True)
    (tmp_path / "volumes" / "claim" / "m").write_bytes(b"model")
    options = ["pvc://claim/m", "--cache", str(tmp_path / "cache"), "--volumes", str(tmp_path / "volumes")]
    assert main.main([*options, "--max-bytes", "4"]) == 1
    assert "max_bytes" in capsys.readouterr().err
    assert main.main(options) == 0


def test_progress_is_one_line_that_is_drawn_again(capsys: pytest.CaptureFixture[str]) -> None:
    main._draw(progress.Progress(512, 1024, 256.0, "copy"))
    main._draw(progress.Progress(1024, 1024, 256.0, "copy"))
    main._draw(progress.Progress(1, None, 0.0, "download"))
    told = capsys.readouterr().err
    assert "copy 512 B of 1.0 KiB, 256 B/s\r" in told
    assert "copy 1.0 KiB of 1.0 KiB, 256 B/s\n" in told
    assert told.endswith("download 1 B, 0 B/s")


def test_it_is_a_program(tmp_path: pathlib.Path, site: Any, file: Any) -> None:
    site.pages["/m.pkl"] = file(b"model")
    done = subprocess.run(
        [sys.executable, "-m", "mlship.storage.main", f"{site.url}/m.pkl", "--cache", str(tmp_path / "cache")],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "no_proxy": "127.0.0.1"},
    )
    assert json.loads(done.stdout)["size"] == 5
    assert done.stderr == b""
