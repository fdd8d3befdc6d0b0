"""The proof as a process: what it writes, and what it says when it cannot."""

from __future__ import annotations

import os
import pathlib
import pickle

import pytest
from sklearn import ensemble, linear_model

import accelerated
from mlship import errors
from mlship.server import acceleration, example, loading, logs, proving, settings
from mlship.server.accelerate import attempt, proofs, verdict


@pytest.fixture
def chosen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    # Judged by answers alone: time decides nothing here.
    monkeypatch.setattr(attempt, "_gains", lambda *_: dict.fromkeys(verdict.SIZES, 9.0))
    path = tmp_path / "model.pkl"
    features, target = accelerated.wine()
    path.write_bytes(pickle.dumps(ensemble.RandomForestClassifier(10, random_state=0).fit(features, target)))
    return settings.Settings(model_path=path, proof_cache=tmp_path / "proofs")


def load(chosen: settings.Settings) -> acceleration.Acceleration:
    source = chosen.source
    assert source is not None
    model = loading.from_disk(source)
    return acceleration.begun(
        model, path=source.path, mode=source.accelerate, kept=source.proofs, row=example.of(model)
    )[1]


def test_a_proof_is_written_that_the_next_load_takes(chosen: settings.Settings) -> None:
    assert load(chosen).pending
    proving.run(chosen)
    report = load(chosen).report
    assert (report.state, report.kept, report.outputs) == ("compiled", True, ("predict", "predict_proba"))


def test_a_second_one_is_not_made(chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    proving.run(chosen)
    monkeypatch.setattr(attempt, "run", None)
    proving.run(chosen)


def test_a_refusal_is_written_as_well(chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_gains", lambda *_: {1: 0.5})
    proving.run(chosen)
    assert load(chosen).report.reason == "it is not faster than the original"


def test_real_data_beside_the_model_is_tried(chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen.model_path is not None
    proving.run(chosen)
    without = load(chosen).report.rows
    (chosen.model_path.parent / "input_example.json").write_text(f"[{[1.5] * 13}]")
    assert chosen.proof_cache is not None
    for path in chosen.proof_cache.glob("*.proof"):
        path.unlink()
    proving.run(chosen)
    assert load(chosen).report.rows > without


def test_what_time_decided_is_not_kept(chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "PROOF_SECONDS", 0.0)
    with pytest.raises(errors.ModelError, match="only 0 proof rows"):
        proving.run(chosen)
    assert load(chosen).pending


def test_it_needs_a_model_a_mode_and_a_folder() -> None:
    with pytest.raises(errors.SpecError, match="a proof needs"):
        proving.run(settings.Settings(model_path=pathlib.Path("m")))


def test_its_last_line_says_why(
    chosen: settings.Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "nice", lambda by: by)
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    flags = ["--model-path", str(chosen.model_path), "--proof-cache", str(chosen.proof_cache)]
    assert proving.command_line(flags) == 0
    assert proving.command_line([*flags, "--accelerate", "off"]) == 1
    assert "a proof needs" in capsys.readouterr().err

    def full(self: proofs.Proofs, known: object, proof: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(proofs.Proofs, "write", full)
    assert chosen.model_path is not None
    chosen.model_path.write_bytes(pickle.dumps(linear_model.Ridge().fit(*accelerated.diabetes())))
    assert proving.command_line(flags) == 1
    assert "could not be written: no space left" in capsys.readouterr().err
