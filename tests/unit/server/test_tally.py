from __future__ import annotations

import prometheus_client
import pytest

from mlship.server import tally

BOUNDS = (0.1, 1.0, 5.0)
VALUES = (0.0, 0.1, 0.100001, 1.0, 4.0, 5.0, 5.1, 1e9)


def test_a_histogram_says_what_the_librarys_own_says() -> None:
    ours = tally.Histograms("h", "What.", ("a",), bounds=BOUNDS)
    theirs = prometheus_client.Histogram("h", "What.", ("a",), buckets=BOUNDS, registry=None)
    for value in VALUES:
        ours.of("x").observe(value)
        theirs.labels("x").observe(value)
    (expected,) = theirs.collect()
    kept = [sample for sample in expected.samples if not sample.name.endswith("_created")]
    assert [(one.name, one.labels, one.value) for one in ours.family().samples] == [
        (one.name, one.labels, one.value) for one in kept
    ]


def test_a_counter_says_what_the_librarys_own_says() -> None:
    ours = tally.Counters("c", "What.", ("a", "b"))
    ours.of("x", "y").add()
    ours.of("x", "y").add(2.5)
    ours.of("x", "z").add()
    found = [(one.name, one.labels, one.value) for one in ours.family().samples]
    assert found == [("c_total", {"a": "x", "b": "y"}, 3.5), ("c_total", {"a": "x", "b": "z"}, 1.0)]


@pytest.mark.parametrize("value", VALUES)
def test_the_trace_of_the_last_observation_of_a_bucket_is_kept(value: float) -> None:
    ours = tally.Histograms("h", "What.", (), bounds=BOUNDS)
    ours.of().observe(value, "0af7")
    ours.of().observe(value)
    ours.of().observe(value, "1bc8")
    (kept,) = [one.exemplar for one in ours.family().samples if one.exemplar is not None]
    assert (kept.labels, kept.value) == ({"trace_id": "1bc8"}, value)
