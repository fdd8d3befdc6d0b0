"""Requests/s against p99 as SVG, both axes logarithmic: up is slow, right is much. Pure, no plotting library."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from xml.sax import saxutils

_WIDTH, _HEIGHT = 900, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 190, 50, 60
_INK, _GRID, _OURS, _THEIRS = "#222", "#ddd", "#c0392b", "#2c5d8f"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One server: requests in a second, p99 in ms, both above 0."""

    title: str
    rate: float
    p99_ms: float
    ours: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis over whole decades from ``low`` to ``high`` (exponents of ten)."""

    low: int
    high: int
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def decades(self) -> range:
        return range(self.low, self.high + 1)


def svg(points: Sequence[Point], *, title: str) -> str:
    """The picture. Points without two positive figures are left out; with none left, axes alone."""
    shown = [one for one in points if one.rate > 0 and one.p99_ms > 0]
    across = _axis([one.rate for one in shown], _LEFT, _WIDTH - _RIGHT)
    up = _axis([one.p99_ms for one in shown], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 28, title, size=16),
        *_grid(across, up),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 16, "requests/s", anchor="middle"),
        _text(_LEFT, _TOP - 6, "p99, ms"),
        *(part for one in shown for part in _point(one, across, up)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    low = math.floor(math.log10(min(values, default=1)))
    high = math.ceil(math.log10(max(values, default=10)))
    return _Axis(low, max(high, low + 1), start, end)


def _grid(across: _Axis, up: _Axis) -> list[str]:
    found = []
    for decade in across.decades:
        x = across.at(10.0**decade)
        found.append(_line(x, up.start, x, up.end))
        found.append(_text(x, up.start + 18, f"{10.0**decade:,g}", anchor="middle"))
    for decade in up.decades:
        y = up.at(10.0**decade)
        found.append(_line(across.start, y, across.end, y))
        found.append(_text(across.start - 8, y + 4, f"{10.0**decade:,g}", anchor="end"))
    return found


def _point(one: Point, across: _Axis, up: _Axis) -> list[str]:
    x, y = across.at(one.rate), up.at(one.p99_ms)
    colour = _OURS if one.ours else _THEIRS
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        _text(x + 9, y + 4, one.title, colour=colour),
    ]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_GRID}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = _INK) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{saxutils.escape(text)}</text>"
