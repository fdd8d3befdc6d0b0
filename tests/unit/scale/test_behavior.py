"""Stabilisation windows, rates over periods, and the factors of one decision."""

from __future__ import annotations

import pytest

from mlship.scale import behavior, memory, policy

NOW = 1_700_000_000.0
Unit, Select = policy.Unit, policy.Select


def made(up: policy.Rules | None = None, down: policy.Rules | None = None, **more: float) -> policy.Policy:
    rules = policy.Behavior(up=up or policy.Rules(), down=down or policy.Rules())
    return policy.Policy(max_replicas=1000, behavior=rules, **more)  # type: ignore[arg-type]


def marks(*wishes: tuple[float, int]) -> tuple[memory.Mark, ...]:
    return tuple(memory.Mark(NOW - ago, wish, wish) for ago, wish in wishes)


def changes(*made_then: tuple[float, int]) -> tuple[memory.Change, ...]:
    return tuple(memory.Change(NOW - ago, by) for ago, by in made_then)


def test_without_windows_a_wish_comes_true() -> None:
    for wish in (1, 4, 9):
        assert behavior.stabilised(made(), marks((0, 4)), wish, current=4, now=NOW) == wish


def test_down_goes_only_to_the_most_of_the_window() -> None:
    slow = made(down=policy.Rules(window=300))
    lately = marks((290, 6), (100, 3), (10, 2))
    assert behavior.stabilised(slow, lately, 1, current=9, now=NOW) == 6
    assert behavior.stabilised(slow, lately, 1, current=9, now=NOW + 20) == 3
    assert behavior.stabilised(slow, lately, 12, current=9, now=NOW) == 12


def test_up_goes_only_to_the_fewest_of_the_window() -> None:
    slow = made(up=policy.Rules(window=60))
    assert behavior.stabilised(slow, marks((50, 3), (10, 5)), 9, current=2, now=NOW) == 3
    assert behavior.stabilised(slow, marks((50, 3), (10, 5)), 9, current=2, now=NOW + 20) == 5
    assert behavior.stabilised(slow, marks((50, 3)), 1, current=2, now=NOW) == 1


def test_the_delay_is_a_window_too() -> None:
    assert behavior.stabilised(made(delay=30), marks((20, 7)), 2, current=9, now=NOW) == 7


def test_marks_stay_few_however_often_is_decided() -> None:
    slow = made(down=policy.Rules(window=300))
    kept: tuple[memory.Mark, ...] = ()
    for tenth in range(6000):
        kept = behavior.remembered(slow, kept, tenth % 7, NOW + tenth / 10)
    assert len(kept) <= 62
    assert kept[0].at > NOW + 599.9 - 306
    assert behavior.remembered(made(), kept, 3, NOW) == ()


def test_a_wish_is_not_forgotten_before_its_window_is_over() -> None:
    slow = made(down=policy.Rules(window=300))
    kept = behavior.remembered(slow, (), 9, NOW)
    for second in range(1, 300):
        kept = behavior.remembered(slow, kept, 1, NOW + second)
        assert behavior.stabilised(slow, kept, 1, current=9, now=NOW + second) == 9
    assert behavior.stabilised(slow, kept, 1, current=9, now=NOW + 306) == 1


@pytest.mark.parametrize(("up", "down"), [(15.0, 3600.0), (3600.0, 15.0), (300.0, 300.0), (0.0, 3600.0), (1.0, 3600.0)])
def test_each_direction_forgets_after_its_own_window_however_long_the_other_is(up: float, down: float) -> None:
    slow = made(up=policy.Rules(window=up), down=policy.Rules(window=down))
    for early, later in ((1, 9), (9, 1)):
        window = up if later > early else down
        kept: tuple[memory.Mark, ...] = ()
        for second in range(90):
            kept = behavior.remembered(slow, kept, early, NOW + second)
        reached = None
        for second in range(90, 4000):
            now = NOW + second
            kept = behavior.remembered(slow, kept, later, now)
            if reached is None and behavior.stabilised(slow, kept, later, current=early, now=now) == later:
                reached = second - 89
        assert reached is not None
        assert max(window, 1) <= reached <= window * (1 + 1 / memory.GRAINS) + 2
        assert len(kept) <= memory.MOST_MARKS


@pytest.mark.parametrize(("current", "ready", "low", "high"), [(1, 1, 0, 1000), (10, 10, 5, 10_000), (4, 1, 2, 1000)])
def test_knatives_factors(current: int, ready: int, low: int, high: int) -> None:
    found = behavior.bounds(made(), (), current=current, ready=ready, now=NOW)
    assert (found.low, found.high) == (low, high)


def test_a_factor_of_those_that_are_ready_does_not_compound_while_they_start() -> None:
    found = behavior.bounds(made(up_rate=2.0), (), current=4, ready=2, now=NOW)
    assert (found.high, found.high_words) == (4, "at most 2 times as many at once")


def up(*rates: policy.Rate, select: Select = Select.MAX) -> policy.Policy:
    return made(up=policy.Rules(rates=rates, select=select))


def down(*rates: policy.Rate, select: Select = Select.MAX) -> policy.Policy:
    return made(down=policy.Rules(rates=rates, select=select), down_rate=1000.0)


DOUBLE, FOUR = policy.Rate(Unit.PERCENT, 100, 15), policy.Rate(Unit.PODS, 4, 15)


@pytest.mark.parametrize(
    ("limited", "current", "high"),
    [
        (up(DOUBLE), 3, 6),
        (up(FOUR), 3, 7),
        (up(DOUBLE, FOUR), 3, 7),
        (up(DOUBLE, FOUR), 10, 20),
        (up(DOUBLE, FOUR, select=Select.MIN), 10, 14),
        (up(DOUBLE, FOUR, select=Select.DISABLED), 10, 10),
        (up(select=Select.DISABLED), 10, 10),
        (up(DOUBLE), 0, 2),
        (up(policy.Rate(Unit.PERCENT, 10, 60)), 5, 6),
    ],
)
def test_up_by_the_rates(limited: policy.Policy, current: int, high: int) -> None:
    assert behavior.bounds(limited, (), current=current, ready=current, now=NOW).high == high


@pytest.mark.parametrize(
    ("limited", "current", "low"),
    [
        (down(policy.Rate(Unit.PERCENT, 10, 60)), 80, 72),
        (down(policy.Rate(Unit.PODS, 4, 60)), 80, 76),
        (down(policy.Rate(Unit.PERCENT, 10, 60), policy.Rate(Unit.PODS, 4, 60)), 80, 72),
        (down(policy.Rate(Unit.PERCENT, 10, 60), policy.Rate(Unit.PODS, 4, 60), select=Select.MIN), 80, 76),
        (down(select=Select.DISABLED), 80, 80),
        (down(DOUBLE), 80, 0),
        (down(FOUR), 3, 0),
    ],
)
def test_down_by_the_rates(limited: policy.Policy, current: int, low: int) -> None:
    assert behavior.bounds(limited, (), current=current, ready=current, now=NOW).low == low


def test_what_was_changed_within_the_period_counts() -> None:
    four = up(FOUR)
    assert behavior.bounds(four, changes((10, 3)), current=8, ready=8, now=NOW).high == 9
    assert behavior.bounds(four, changes((10, 4)), current=8, ready=8, now=NOW).high == 8
    assert behavior.bounds(four, changes((16, 4)), current=8, ready=8, now=NOW).high == 12
    one = down(policy.Rate(Unit.PODS, 1, 60))
    found = behavior.bounds(one, changes((30, -1)), current=5, ready=5, now=NOW)
    assert (found.low, found.low_words) == (5, "as fast as behavior.scaleDown lets it")


def test_changes_are_kept_as_long_as_a_period_reaches_and_never_grow_many() -> None:
    one = up(policy.Rate(Unit.PODS, 1000, 1800))
    kept: tuple[memory.Change, ...] = ()
    for second in range(500):
        kept = behavior.changed(one, kept, 1, NOW + second)
    assert len(kept) == memory.MOST_MARKS
    assert sum(change.by for change in kept) == 500
    assert behavior.changed(one, kept, 0, NOW + 499 + 1801) == ()
    assert behavior.changed(made(), kept, 1, NOW) == ()
