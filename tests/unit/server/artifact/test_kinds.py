from __future__ import annotations

import pytest

from mlship import errors
from mlship.server.artifact import kinds


@pytest.mark.parametrize(
    ("word", "meant"), [("sklearn", "sklearn"), ("LGBM", "lightgbm"), ("custom", "python"), ("mlflow", "mlflow")]
)
def test_a_users_word_for_a_format(word: str, meant: str) -> None:
    assert kinds.canonical(word) == meant


def test_unserved_and_unknown_formats_are_told_apart() -> None:
    with pytest.raises(errors.SpecError, match="'Tensorflow' is recognised, not served yet") as caught:
        kinds.canonical("Tensorflow")
    assert caught.value.reason is errors.Reason.UNSUPPORTED
    with pytest.raises(errors.SpecError, match=r"'xgbost' is not known \(did you mean 'xgboost'\?\)"):
        kinds.canonical("xgbost")


def test_modules_are_looked_for_without_importing_them() -> None:
    assert kinds.is_installed("sklearn")
    assert not kinds.is_installed("no_such_module_here")
    assert kinds.is_installed("__main__") in (True, False)


def test_a_missing_library_names_its_extra() -> None:
    error = kinds.missing(kinds.LIBRARIES["onnx"], "m.onnx is an ONNX model")
    assert str(error) == ("m.onnx is an ONNX model, and onnxruntime is not installed here. pip install 'mlship[onnx]'")
