"""From a loaded model to a compiled one: at once where it was proven before, later where it was not."""

from __future__ import annotations

import dataclasses
import pathlib
import pickle
from typing import Any

import pytest
from sklearn import linear_model, svm

import accelerated
from mlship.server import acceleration, example, loading
from mlship.server.accelerate import attempt, compiled, convert, proofs, verdict


@pytest.fixture
def source(tmp_path: pathlib.Path) -> loading.Source:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(linear_model.Ridge().fit(*accelerated.diabetes())))
    return loading.Source(name="m", version="1", path=path, accelerate=verdict.Mode.AUTO, proofs=tmp_path / "proofs")


def begun(source: loading.Source) -> tuple[Any, acceleration.Acceleration]:
    model = loading.from_disk(source)
    return acceleration.begun(
        model, path=source.path, mode=source.accelerate, kept=source.proofs, row=example.of(model)
    )


def write(source: loading.Source, state: acceleration.Acceleration, **changes: Any) -> proofs.Proofs:
    assert source.proofs is not None
    assert state.facts is not None
    report = verdict.Report(verdict.Mode.AUTO, used=True, outputs=("predict",), rows=4000, max_rows=-1)
    kept = proofs.Proofs(source.proofs)
    kept.write(state.facts, proofs.Proof(dataclasses.replace(report, **changes)))
    return kept


def test_off_leaves_the_model_alone(source: loading.Source) -> None:
    model, state = begun(dataclasses.replace(source, accelerate=verdict.Mode.OFF))
    assert not isinstance(model, compiled.Compiled)
    assert (state.report.reason, state.pending) == ("it was not asked for", False)


def test_the_original_answers_until_the_proof_is_there(source: loading.Source) -> None:
    model, state = begun(source)
    rows = accelerated.diabetes()[0][:3]
    before = model.infer({"input-0": rows}, outputs=(), parameters={})["predict"].tolist()
    assert (state.pending, state.report.state) == (True, "proving")
    kept = write(source, state)
    assert acceleration.taken(state, kept)
    assert (state.pending, state.report.state, state.report.kept) == (False, "compiled", True)
    assert model._fast is not None
    assert model.infer({"input-0": rows}, outputs=(), parameters={})["predict"].tolist() == before


def test_a_kept_proof_holds_from_the_beginning(source: loading.Source) -> None:
    write(source, begun(source)[1])
    model, state = begun(source)
    assert (state.report.state, model._fast is None) == ("compiled", False)


def test_a_kept_refusal_holds_too(source: loading.Source) -> None:
    write(source, begun(source)[1], used=False, reason="it is not faster than the original")
    model, state = begun(source)
    assert (state.report.state, model._fast) == ("original", None)
    assert "not faster" in state.report.reason


def test_there_is_nothing_to_take(source: loading.Source) -> None:
    assert source.proofs is not None
    state = begun(source)[1]
    assert not acceleration.taken(state, proofs.Proofs(source.proofs))
    assert not acceleration.taken(acceleration.Acceleration(state.report), proofs.Proofs(source.proofs))


@pytest.mark.parametrize("outputs", [("predict", "unknown"), ()])
def test_a_proof_of_other_outputs_is_dropped(source: loading.Source, outputs: tuple[str, ...]) -> None:
    kept = write(source, begun(source)[1], outputs=outputs)
    model, state = begun(source)
    assert (state.pending, model._fast) == (True, None)
    assert state.facts is not None
    assert kept.read(state.facts) is None


def test_a_kept_form_that_answers_otherwise_is_dropped(source: loading.Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(fitted: Any, kept: Any = None) -> Any:
        fast = made(fitted, kept)
        return dataclasses.replace(fast, scores=lambda matrix: fast.scores(matrix) + 1)

    made = convert.kernel_of
    write(source, begun(source)[1])
    monkeypatch.setattr(convert, "kernel_of", wrong)
    assert begun(source)[1].pending
    # A form that is no form is made again as well.
    monkeypatch.setattr(convert, "kernel_of", lambda fitted, kept=None: made(fitted, kept).missing_attribute)
    write(source, begun(source)[1])
    assert begun(source)[1].pending


def test_what_cannot_be_compiled_is_not_tried(source: loading.Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.path.write_bytes(pickle.dumps(svm.SVC().fit(*accelerated.wine())))
    monkeypatch.setattr(attempt, "run", None)
    model, state = begun(source)
    assert not isinstance(model, compiled.Compiled)
    assert (state.report.state, state.report.reason) == ("original", "there is no compiled form of sklearn's SVC")


def test_a_file_that_has_gone_is_no_failure(source: loading.Source) -> None:
    model = loading.from_disk(source)
    source.path.unlink()
    served, state = acceleration.begun(
        model, path=source.path, mode=source.accelerate, kept=source.proofs, row=example.of(model)
    )
    assert served is model
    assert "cannot be read again: No such file" in state.report.reason


def test_refused(source: loading.Source) -> None:
    state = begun(source)[1]
    state.refuse("it rained")
    assert (state.pending, state.report.reason, state.report.state) == (False, "it rained", "original")
