"""Cron expressions as KEDA takes them: five fields, names of months and days, and a time zone. Pure.

The one door to the library that evaluates them. It knows more than KEDA does (a field for seconds, ``L``, ``#``); that
is refused, so that what is applied here also works there.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable, Iterator

import cronsim

from mlship import errors

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_PLAIN = re.compile(r"[0-9A-Za-z*?,/-]+", re.ASCII)
_WORDS = re.compile(r"[A-Za-z]+")
_NAMES = frozenset(
    "SUN MON TUE WED THU FRI SAT JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()  # noqa: SIM905
)
_LONGEST = 200
# Where a search for "does it ever happen" begins: a leap year, so that 29 February is among the first.
_REFERENCE = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
# A wall clock that was set back shows times that have already been; a few steps lead past them.
_STEPS = 400
_RECENT = 3 * 3600.0


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of an IANA name. Raises ``errors.SpecError``."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        hint = "Write a name such as Europe/Berlin, America/New_York or UTC."
        raise errors.SpecError(f"{name[:60]!r} is not a time zone.", hint=hint) from error


def check(expression: str) -> None:
    """Raise ``errors.SpecError`` with what is wrong with an expression, or that its time never comes."""
    _iterator(expression, _REFERENCE)
    if following(expression, "UTC", _REFERENCE.timestamp()) is None:
        raise errors.SpecError(f"{expression[:60]!r} never comes.", hint="Is there such a day in such a month?")


def following(expression: str, timezone: str, now: float) -> float | None:
    """The first time after ``now`` (Unix seconds) at which it strikes; None when it never does.

    By the wall clock of the time zone. A time that is left out when the clock is set forward strikes right after it;
    one that comes twice when the clock is set back strikes the first time. Raises ``errors.SpecError``.
    """
    here = zone(timezone)
    times = _iterator(expression, datetime.datetime.fromtimestamp(now, here))
    return _first(times, lambda found: found > now)


def preceding(expression: str, timezone: str, now: float) -> float | None:
    """The last time up to ``now`` at which it struck; None when it never did. Otherwise as ``following``."""
    here = zone(timezone)
    # The wall clock shows a time again after it was set back: what struck the first time lies ahead of it.
    back = _offset(here, now - _RECENT) - _offset(here, now)
    later = datetime.datetime.fromtimestamp(now + max(back, 0.0) + 1.0, here)
    return _first(_iterator(expression, later, reverse=True), lambda found: found <= now)


def _offset(here: zoneinfo.ZoneInfo, now: float) -> float:
    found = datetime.datetime.fromtimestamp(now, here).utcoffset()
    return found.total_seconds() if found is not None else 0.0


def _first(times: Iterator[datetime.datetime], fits: Callable[[float], bool]) -> float | None:
    for _ in range(_STEPS):
        try:
            found = next(times).timestamp()
        except (StopIteration, OverflowError, ValueError):
            return None
        if fits(found):
            return found
    return None


def _iterator(expression: str, since: datetime.datetime, *, reverse: bool = False) -> cronsim.CronSim:
    fields = expression[:_LONGEST].split()
    if len(fields) != len(FIELDS) or len(expression) > _LONGEST:
        reason = f"{expression[:60]!r} has {len(fields)} fields, a cron expression has 5."
        raise errors.SpecError(reason, hint=f"Write {', '.join(FIELDS)}: 0 8 * * 1-5.")
    for name, text in zip(FIELDS, fields, strict=True):
        unknown = [word for word in _WORDS.findall(text) if word.upper() not in _NAMES]
        if unknown or not _PLAIN.fullmatch(text):
            raise errors.SpecError(f"{text[:40]!r} is not a {name}.", hint="Write numbers, names, and * , - or /.")
    try:
        return cronsim.CronSim(" ".join(field.replace("?", "*") for field in fields), since, reverse=reverse)
    except (cronsim.CronSimError, ValueError) as error:
        reason = f"{expression[:60]!r} is not a cron expression: {str(error).lower()}."
        raise errors.SpecError(reason, hint=f"The fields are {', '.join(FIELDS)}: 0 8 * * 1-5.") from error
