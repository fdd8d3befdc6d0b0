"""Schedules, also on the two nights of the year on which the clock is set."""

from __future__ import annotations

import datetime
import zoneinfo

import hypothesis
import pytest
from hypothesis import strategies

from mlship.api import crontab
from mlship.plan import scaling, schedules

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
OFFICE = scaling.Cron("office", start="0 8 * * 1-5", end="0 18 * * 1-5", timezone="Europe/Berlin", replicas=3)


def berlin(text: str, *, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "active", "turn"),
    [
        ("2026-03-02 07:59:59", False, "2026-03-02 08:00"),
        ("2026-03-02 08:00:00", True, "2026-03-02 18:00"),
        ("2026-03-02 17:59:59", True, "2026-03-02 18:00"),
        ("2026-03-02 18:00:00", False, "2026-03-03 08:00"),
        # Friday evening, and the Monday after the clock was set forward.
        ("2026-03-27 19:00:00", False, "2026-03-30 08:00"),
    ],
)
def test_from_each_start_to_the_next_end(now: str, active: bool, turn: str) -> None:
    found = schedules.at(OFFICE, berlin(now))
    assert (found.active, found.changes_at) == (active, berlin(turn))
    assert (found.name, found.replicas) == ("office", 3)


def night(start: str, end: str) -> scaling.Cron:
    return scaling.Cron("night", start=start, end=end, timezone="Europe/Berlin", replicas=1)


def test_a_start_in_the_hour_that_is_left_out_comes_right_after_it() -> None:
    cron = night("30 2 * * *", "0 4 * * *")
    before = schedules.at(cron, berlin("2026-03-29 01:59"))
    assert (before.active, before.changes_at) == (False, berlin("2026-03-29 03:00"))
    assert schedules.at(cron, berlin("2026-03-29 03:00")).active


def test_a_start_in_the_hour_that_comes_twice_comes_once() -> None:
    cron = night("30 2 * * *", "0 4 * * *")
    assert schedules.at(cron, berlin("2026-10-25 02:29")).changes_at == berlin("2026-10-25 02:30")
    again = schedules.at(cron, berlin("2026-10-25 02:15", fold=1))
    assert (again.active, again.changes_at) == (True, berlin("2026-10-25 04:00"))


def test_over_midnight_and_the_year() -> None:
    cron = night("0 22 31 12 *", "0 6 1 1 *")
    assert schedules.at(cron, berlin("2026-12-31 23:30")).active
    assert not schedules.at(cron, berlin("2026-12-31 21:59")).active


@hypothesis.given(
    now=strategies.one_of(
        strategies.integers(0, 4_000_000_000),
        # The nights of 2026 on which clocks are set: Europe, America, Lord Howe.
        *(
            strategies.integers(night - 10_000, night + 10_000)
            for night in (1774746000, 1792890000, 1772953200, 1793512800, 1775314800, 1791039600)
        ),
    ),
    timezone=strategies.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
    ),
    start=strategies.sampled_from(["0 8 * * *", "30 2 * * *", "*/15 * * * *", "0 0 1 * MON", "15 1-3 * * 0"]),
    end=strategies.sampled_from(["0 18 * * *", "0 3 * * *", "7 * * * *", "59 23 * * FRI"]),
)
@hypothesis.settings(deadline=None)
def test_it_turns_when_it_says(now: int, timezone: str, start: str, end: str) -> None:
    cron = scaling.Cron("c", start=start, end=end, timezone=timezone, replicas=1)
    found = schedules.at(cron, now)
    assert found.changes_at is not None
    assert found.changes_at > now
    before, after = schedules.at(cron, found.changes_at - 1), schedules.at(cron, found.changes_at)
    assert before.active == found.active
    both = crontab.following(start, timezone, found.changes_at - 1) == crontab.following(
        end, timezone, found.changes_at - 1
    )
    assert both or after.active != found.active
