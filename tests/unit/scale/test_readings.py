"""When a reading says enough to shrink by."""

from __future__ import annotations

import pytest

from mlship.scale import readings, window


def test_a_value_that_was_asked_for_once_is_whole() -> None:
    assert readings.Reading(stable=3.0).whole
    assert not readings.Reading(stable=3.0, coverage=0.99).whole
    assert not readings.Reading().whole
    assert not readings.UNKNOWN.whole


def test_a_series_becomes_a_reading() -> None:
    made = window.Window(60)
    for second in range(30):
        made.add(1000.0 + second, 2.0 if second < 24 else 8.0)
    found = readings.of(made.series(1029.0, 60), panic=6)
    assert (found.stable, found.panic) == (pytest.approx(3.2), 8.0)
    assert found.coverage == 0.5
    assert not found.whole
