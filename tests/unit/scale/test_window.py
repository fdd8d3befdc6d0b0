"""What a window knows, what it does not know, and how replicas are put together."""

from __future__ import annotations

import math

import pytest

from mlship.scale import window

T = 1_700_000_000.0


def filled(start: float, values: list[float], *, hold: int = 5) -> window.Window:
    made = window.Window(60, hold=hold)
    for offset, value in enumerate(values):
        made.add(start + offset, value)
    return made


def test_nothing_seen_is_unknown_and_not_zero() -> None:
    empty = window.Window(60)
    assert empty.average(T, 60) is None
    assert empty.maximum(T, 60) is None
    assert empty.coverage(T, 60) == 0.0


def test_average_maximum_and_coverage_of_a_full_window() -> None:
    made = filled(T, [1.0] * 30 + [3.0] * 30)
    assert made.average(T + 59, 60) == 2.0
    assert made.maximum(T + 59, 60) == 3.0
    assert made.coverage(T + 59, 60) == 1.0
    assert made.average(T + 59, 6) == 3.0


def test_the_second_of_now_counts_at_once() -> None:
    made = filled(T, [0.0] * 60)
    made.add(T + 60.2, 60.0)
    assert made.average(T + 60.3, 60) == 1.0


def test_samples_of_one_second_are_averaged() -> None:
    made = window.Window(10)
    for value in (2.0, 4.0, 9.0):
        made.add(T + 0.1, value)
    assert made.average(T + 0.9, 1) == 5.0


def test_a_sample_stands_for_a_while_and_not_for_ever() -> None:
    made = filled(T, [4.0], hold=3)
    assert made.series(T + 5, 6).values == (4.0, 4.0, 4.0, 4.0, None, None)
    assert made.average(T + 5, 2) is None


def test_a_scrape_every_few_seconds_covers_all() -> None:
    made = window.Window(60, hold=4)
    for offset in range(0, 70, 2):
        made.add(T + offset, 1.0)
    assert made.coverage(T + 69, 60) == 1.0


def test_what_left_the_window_is_gone() -> None:
    made = filled(T, [100.0] * 10)
    for offset in range(10, 200):
        made.add(T + offset, 1.0)
    assert made.maximum(T + 199, 60) == 1.0
    assert made.average(T + 100_000, 60) is None


def test_a_late_sample_finds_its_second() -> None:
    made = window.Window(10, hold=0)
    made.add(T + 5, 1.0)
    made.add(T + 3, 7.0)
    assert made.series(T + 5, 4).values == (None, 7.0, None, 1.0)


def test_a_clock_set_back_begins_anew() -> None:
    made = filled(T, [9.0] * 60)
    made.add(T - 3600, 2.0)
    assert made.average(T - 3600, 60) == 2.0
    assert made.coverage(T - 3600, 60) == pytest.approx(1 / 60)


def test_what_is_no_number_is_no_sample() -> None:
    made = window.Window(10)
    for value in (math.nan, math.inf, -math.inf):
        made.add(T, value)
    assert made.average(T, 10) is None


def test_it_never_looks_further_back_than_it_was_made_for() -> None:
    assert len(window.Window(10).series(T, 600).values) == 10


@pytest.mark.parametrize(("seconds", "hold"), [(0, 5), (60, -1)])
def test_windows_that_cannot_be(seconds: int, hold: int) -> None:
    with pytest.raises(ValueError, match="a window needs"):
        window.Window(seconds, hold=hold)


def test_replicas_add_up_second_by_second() -> None:
    one, other = filled(T, [1.0, 2.0, 3.0]), filled(T, [10.0, 20.0, 30.0])
    assert window.total(part.series(T + 2, 3) for part in (one, other)).values == (11.0, 22.0, 33.0)
    assert window.mean(part.series(T + 2, 3) for part in (one, other)).values == (5.5, 11.0, 16.5)
    assert window.highest(part.series(T + 2, 3) for part in (one, other)).values == (10.0, 20.0, 30.0)


def test_a_replica_counts_from_its_first_sample_on() -> None:
    old, new = filled(T, [4.0] * 4), filled(T + 2, [6.0, 6.0])
    joined = window.total(part.series(T + 3, 4) for part in (old, new))
    assert joined.values == (4.0, 4.0, 10.0, 10.0)
    assert joined.coverage == 1.0


def test_a_silent_replica_makes_the_whole_unknown() -> None:
    one, silent = filled(T, [4.0] * 20), filled(T, [50.0] * 5, hold=2)
    joined = window.total(part.series(T + 19, 20) for part in (one, silent))
    assert joined.values[6] == 54.0
    assert joined.values[7:] == (None,) * 13


def test_a_replica_that_ended_is_not_missed_and_what_it_did_still_counts() -> None:
    one, ended = filled(T, [4.0] * 20), filled(T, [50.0] * 5, hold=2)
    ended.end(T + 5)
    joined = window.total(part.series(T + 19, 20) for part in (one, ended))
    assert joined.values == (54.0,) * 5 + (4.0,) * 15
    assert not ended.expired(T + 64)
    assert ended.expired(T + 65)


def test_none_alive_is_unknown() -> None:
    assert window.total([]).average is None
    ended = filled(T, [1.0])
    ended.end(T + 1)
    assert window.total([ended.series(T + 3, 3)]).values == (None, None, None)


def test_series_of_different_lengths_do_not_add_up() -> None:
    made = filled(T, [1.0])
    with pytest.raises(ValueError, match="different lengths"):
        window.total([made.series(T, 5), made.series(T, 6)])


def test_the_end_of_a_series_keeps_who_lived_when() -> None:
    old, new = filled(T, [4.0] * 6), filled(T + 4, [6.0, 6.0])
    parts = [part.series(T + 5, 6).last(3) for part in (old, new)]
    assert window.total(parts).values == (4.0, 10.0, 10.0)
