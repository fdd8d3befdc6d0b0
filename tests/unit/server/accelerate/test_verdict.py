"""What counts as the same answer, and when it is worth having."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship.server.accelerate import verdict


def refused(mode: str, left: Any, right: Any) -> str:
    return verdict.refusal(verdict.Mode(mode), verdict.compare(np.asarray(left), np.asarray(right)))


@pytest.mark.parametrize(
    ("left", "right", "auto", "exact"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], "", ""),
        ([1.0], [1.0 + 5e-7], "", "bits differ"),
        ([0.0], [-0.0], "", "bits differ"),
        ([1.0], [1.0 + 2e-6], "differs by up to 2e-06", "bits differ"),
        ([1.0], [np.nan], "differs by up to inf", "bits differ"),
        ([1.0], [np.inf], "differs by up to inf", "bits differ"),
        ([0.0], [1e-300], "differs by up to 1", "bits differ"),
        ([1, 2], [1, 3], "1 labels changed", "bits differ"),
        ([1.0], np.float32([1.0]), r"float64\[1\] became float32", r"float64\[1\] became float32"),
        ([1.0], [[1.0]], "became", "became"),
        (np.array(["a"], object), np.array(["a"], object), "", ""),
        (np.array([1], object), np.array([True], object), "", "bits differ"),
    ],
)
def test_the_rule(left: Any, right: Any, auto: str, exact: str) -> None:
    for mode, expected in (("auto", auto), ("exact", exact)):
        found = refused(mode, left, right)
        assert bool(found) == bool(expected), found
        assert not expected or expected.replace("\\", "").split("became")[0] in found


@pytest.mark.parametrize(
    ("gains", "rows"),
    [({}, 0), ({1: 1.0, 64: 9.0}, 0), ({1: 2.0}, 1), ({1: 2.0, 64: 1.5, 1024: 0.4}, 64), ({1: 2, 64: 2, 1024: 2}, -1)],
)
def test_worthwhile(gains: dict[int, float], rows: int) -> None:
    assert verdict.worthwhile(gains) == rows


def test_differences_join_to_the_worse() -> None:
    joined = verdict.Difference(absolute=1.0, changed=1).joined(verdict.Difference(relative=0.5, changed=2, bits=False))
    assert joined == verdict.Difference(absolute=1.0, relative=0.5, changed=3, bits=False)


def test_a_report_on_the_wire() -> None:
    wire = verdict.Report(verdict.Mode.AUTO, reason="no", gains={1: 3.14159}).wire()
    assert wire["accelerate"] == "auto"
    assert wire["speed_up"] == {"1": 3.14}
    assert wire["identical_bits"] is None
