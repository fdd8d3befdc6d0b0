from __future__ import annotations

from mlship.server import pace


def test_what_was_not_measured_yet_runs_on_a_worker() -> None:
    made = pace.Pace()
    assert not made.short(1)
    made.aside(1, 0.0002)
    assert made.short(1)
    assert not made.short(64), "so many rows were not measured"


def test_what_takes_longer_than_the_budget_stays_on_a_worker_until_it_no_longer_does() -> None:
    made = pace.Pace()
    made.aside(1, 0.004)
    assert not made.short(1)
    for _ in range(30):
        made.aside(1, 0.0001)
    assert made.short(1)


def test_an_execution_that_grows_long_goes_to_a_worker() -> None:
    made = pace.Pace()
    made.aside(1, 0.0001)
    for _ in range(5):
        made.inline(1, 0.003, slept=0.0)
    assert not made.short(1)


def test_one_that_waits_is_barred_for_twice_as_long_each_time() -> None:
    made = pace.Pace()
    made.aside(1, 0.0001)
    lengths = []
    for _ in range(3):
        assert made.short(1)
        made.inline(1, 0.0001, slept=1.0)
        length = 0
        while not made.short(1):
            made.aside(1, 0.0001)
            length += 1
        lengths.append(length)
    assert lengths == [16, 32, 64]
    for _ in range(1000):
        made.inline(1, 0.0001, slept=0.0)
    made.inline(1, 0.0001, slept=1.0)
    assert made.barred == 16, "forgiven"
