from __future__ import annotations

import datetime
import zoneinfo

import pytest

from mlship import errors
from mlship.api import crontab

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def berlin(text: str, *, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize("text", ["0 8 * * *", "*/15 8-18 * * MON-FRI", "5/20 * ? jan,JUL 0", "0 0 29 2 *"])
def test_what_keda_takes(text: str) -> None:
    crontab.check(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 fields"),
        ("0 8 * *", "has 4 fields"),
        ("0 0 8 * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("60 8 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 8 * * 5-1", "bad day-of-week"),
        ("0 8 L * *", "'L' is not a day of month"),
        ("0 8 * * 1#2", "'1#2' is not a day of week"),
        ("0 8 * * MONDAY", "'MONDAY' is not a day of week"),
        ("0 8 30 2 *", "bad day-of-month"),
        ("٠ 8 * * *", "is not a minute"),
        ("0 8 * * *" + " " * 400, "has 5 fields"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(errors.SpecError, match=said):
        crontab.check(text)


@pytest.mark.parametrize("name", ["", "Mars/Phobos", "../../etc/passwd", "America", "/etc/localtime", "\0"])
def test_no_time_zones(name: str) -> None:
    with pytest.raises(errors.SpecError, match="is not a time zone"):
        crontab.zone(name)


@pytest.mark.parametrize(
    ("expression", "now", "before", "after"),
    [
        ("30 2 * * *", berlin("2026-03-29 03:10"), berlin("2026-03-29 03:00"), berlin("2026-03-30 02:30")),
        ("30 2 * * *", berlin("2026-03-29 01:59"), berlin("2026-03-28 02:30"), berlin("2026-03-29 03:00")),
        # The hour from 2 to 3 comes twice.
        ("30 2 * * *", berlin("2026-10-25 02:40"), berlin("2026-10-25 02:30"), berlin("2026-10-26 02:30")),
        ("30 2 * * *", berlin("2026-10-25 02:15", fold=1), berlin("2026-10-25 02:30"), berlin("2026-10-26 02:30")),
        ("30 2 * * *", berlin("2026-10-25 02:45", fold=1), berlin("2026-10-25 02:30"), berlin("2026-10-26 02:30")),
        ("0 3 * * *", berlin("2026-10-25 02:45", fold=1), berlin("2026-10-24 03:00"), berlin("2026-10-25 03:00")),
        ("0 8 * * *", berlin("2026-06-01 08:00"), berlin("2026-06-01 08:00"), berlin("2026-06-02 08:00")),
    ],
)
def test_on_the_nights_when_the_clock_is_set(expression: str, now: float, before: float, after: float) -> None:
    assert crontab.preceding(expression, "Europe/Berlin", now) == before
    assert crontab.following(expression, "Europe/Berlin", now) == after
