"""Durations as Go writes them, and Knative's annotations with it: ``250ms``, ``1m30s``, ``1h``. Pure."""

from __future__ import annotations

import re

from mlship import errors

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|ms|s|m|h)", re.ASCII)
_LONGEST = 100


def seconds(text: str) -> float:
    """The duration in seconds. Raises ``errors.SpecError`` when it is none; a sign is none either."""
    found = _PART.findall(text[:_LONGEST])
    if text == "0":
        return 0.0
    if not found or "".join(number + unit for number, unit in found) != text:
        raise errors.SpecError(f"{text[:40]!r} is not a duration.", hint="Write for example 250ms, 90s or 1m30s.")
    return sum(float(number) * _UNITS[unit] for number, unit in found)
