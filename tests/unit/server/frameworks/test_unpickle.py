from __future__ import annotations

import pathlib
import pickle

import joblib
import numpy as np
import pytest

from mlship import errors
from mlship.server import model
from mlship.server.artifact import kinds
from mlship.server.frameworks import unpickle


def artifact(path: pathlib.Path, variant: str, **versions: str) -> model.Artifact:
    return model.Artifact(path, path, "sklearn", variant, versions=versions)


def test_plain_and_joblib_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1]))
    joblib.dump(np.ones(2), tmp_path / "b.joblib", compress=3)
    assert unpickle.load(artifact(tmp_path / "a.pkl", "pickle")) == [1]
    assert unpickle.load(artifact(tmp_path / "b.joblib", "joblib")).tolist() == [1, 1]


def test_a_missing_extra_within_a_pickle_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04cxgboost.no_such_part\nModel\n)\x81.")
    monkeypatch.setattr(kinds, "is_installed", lambda _: False)
    with pytest.raises(errors.SpecError, match="needs xgboost, and xgboost is not installed here"):
        unpickle.load(artifact(tmp_path / "m.pkl", "pickle"))
    for variant, extra in (("joblib", "sklearn"), ("skops", "skops")):
        with pytest.raises(errors.SpecError) as caught:
            unpickle.load(artifact(tmp_path / "m.pkl", variant))
        assert caught.value.hint == f"pip install 'mlship[{extra}]'"


def test_versions_explain_what_does_not_load(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04csklearn.tree\nNoSuchTree\n)\x81.")
    with pytest.raises(errors.ModelError) as caught:
        unpickle.load(artifact(tmp_path / "m.pkl", "pickle", **{"scikit-learn": "0.22.1"}))
    assert "NoSuchTree" in caught.value.message
    assert "saved with scikit-learn 0.22.1" in caught.value.hint


def test_a_file_that_is_gone_is_the_machines_fault(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.BackendError, match="cannot be read"):
        unpickle.load(artifact(tmp_path / "gone.pkl", "pickle"))
