from __future__ import annotations

import numpy as np
import pytest

from mlship.server.artifact import versions

SEVERITY = versions.Severity


@pytest.mark.parametrize(
    ("recorded", "present", "severity", "sentence"),
    [
        ("1.5.2", "1.5.2", SEVERITY.SAME, "as recorded"),
        ("1.5.2", "1.5.0", SEVERITY.PATCH, "usually harmless"),
        ("1.4.0", "1.5.2", SEVERITY.MINOR, "predict differently. Install scikit-learn==1.4.0"),
        ("1.6.0", "1.5.2", SEVERITY.MINOR, "which is older"),
        ("0.24.2", "1.5.2", SEVERITY.MAJOR, "trees saved before scikit-learn 1.3"),
        ("1.5.2", "", SEVERITY.MAJOR, "not installed here"),
        ("1.5.dev0", "1.5.2", SEVERITY.SAME, "as recorded"),
    ],
)
def test_scikit_learn(recorded: str, present: str, severity: versions.Severity, sentence: str) -> None:
    installed = {"scikit-learn": present} if present else {}
    (found,) = versions.compare({"scikit-learn": recorded}, installed)
    assert found.severity is severity
    assert sentence in found.message


def test_numpy_2_pickles_do_not_load_under_numpy_1() -> None:
    (found,) = versions.compare({"numpy": "2"}, {"numpy": "1.26.4"})
    assert found.severity is SEVERITY.MAJOR
    assert "numpy._core" in found.message
    assert "numpy>=2" in found.message


def test_a_partial_record_is_compared_as_far_as_it_goes() -> None:
    (found,) = versions.compare({"numpy": "2"}, {"numpy": "2.4.1"})
    assert found.severity is SEVERITY.SAME


def test_another_library_a_minor_release_apart() -> None:
    (found,) = versions.compare({"xgboost": "3.0.1"}, {"xgboost": "3.2.0"})
    assert found.message.endswith("a minor release apart.")


def test_what_is_no_library_is_left_out_and_the_worst_comes_first() -> None:
    recorded = {"onnx-opset": "9", "numpy": "2", "lightgbm": "3", "skops": "0.9.1"}
    found = versions.compare(recorded, {"numpy": "2.1.0", "lightgbm": "4.5.0", "skops": "0.10.0"})
    assert [item.name for item in found] == ["lightgbm", "skops", "numpy"]


def test_installed_versions_are_those_of_the_environment() -> None:
    found = versions.installed(["numpy", "xgboost", "no-such-library"])
    assert found["numpy"] == np.__version__
    assert found["xgboost"]
    assert "no-such-library" not in found


def test_the_hint_speaks_only_of_what_differs() -> None:
    assert versions.hint({"numpy": np.__version__}) == ""
    assert "The model was saved with scikit-learn 0.1.0" in versions.hint({"scikit-learn": "0.1.0"})
