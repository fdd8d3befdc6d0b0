"""Requests/s against p99 as SVG, both axes logarithmic: up is slow, right is much. Pure, no plotting library.

Titles stand beside their points; where two would overlap, one moves away and a thin line leads back to its point.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Sequence
from xml.sax import saxutils

_WIDTH, _HEIGHT = 1000, 620
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 40, 60, 60
_INK, _GRID = "#222", "#ddd"
_SIZE, _LINE = 12, 15
_LETTER = 6.9  # the width of a letter of that size, generously
_STEPS = (1, 2, 5)


class Side(enum.StrEnum):
    """Whose point it is, as its colour."""

    OURS = "#c0392b"
    THEIRS = "#2c5d8f"
    FLOOR = "#777777"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One server: requests in a second, p99 in ms, both above 0."""

    title: str
    rate: float
    p99_ms: float
    side: Side = Side.THEIRS


@dataclasses.dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis with lines at 1, 2 and 5 times the powers of ten between its ends."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high = math.log10(self.ticks[0]), math.log10(self.ticks[-1])
        return self.start + (math.log10(value) - low) / (high - low) * (self.end - self.start)


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A place that something takes; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        across = self.x < other.x + other.width and other.x < self.x + self.width
        return across and self.y < other.y + other.height and other.y < self.y + self.height

    def inside(self, other: Box) -> bool:
        across = other.x <= self.x and self.x + self.width <= other.x + other.width
        return across and other.y <= self.y and self.y + self.height <= other.y + other.height


_FIELD = Box(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)


def svg(points: Sequence[Point], *, title: str) -> str:
    """The picture. Points without two positive figures are left out; with none left, axes alone."""
    shown = [one for one in points if one.rate > 0 and one.p99_ms > 0]
    across = _axis([one.rate for one in shown], _LEFT, _WIDTH - _RIGHT)
    up = _axis([one.p99_ms for one in shown], _HEIGHT - _BOTTOM, _TOP)
    places = [(across.at(one.rate), up.at(one.p99_ms)) for one in shown]
    boxes = labels(places, [one.title for one in shown])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 28, title, size=16),
        *_grid(across, up),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "requests/s", anchor="middle"),
        _text(_LEFT, _TOP - 8, "p99, ms"),
        *(part for one, place, box in zip(shown, places, boxes, strict=True) for part in _point(one, place, box)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def labels(places: Sequence[tuple[float, float]], titles: Sequence[str]) -> list[Box]:
    """Where each title goes: the nearest place beside its point, in the field, that meets no title and no point."""
    dots = [Box(x - 6, y - 6, 12, 12) for x, y in places]
    taken: list[Box] = []
    for (x, y), title in zip(places, titles, strict=True):
        tried = list(_around(x, y, len(title) * _LETTER))
        free = (one for one in tried if one.inside(_FIELD) and not any(one.meets(other) for other in (*dots, *taken)))
        taken.append(next(free, tried[0]))
    return taken


def _around(x: float, y: float, width: float) -> Iterator[Box]:
    """Beside a point, to the right before the left, then a line up or down, and so on."""
    for row in range(16):
        for sign in (1, -1) if row else (1,):
            top = y - _LINE / 2 + sign * row * _LINE
            away = 10 + 8 * min(row, 2)
            yield Box(x + away, top, width, _LINE)
            yield Box(x - away - width, top, width, _LINE)


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    low, high = min(values, default=1), max(values, default=10)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in _STEPS]
    first = max((index for index, tick in enumerate(ticks) if tick <= low), default=0)
    last = min((index for index, tick in enumerate(ticks) if tick >= high), default=len(ticks) - 1)
    return _Axis(tuple(ticks[first : max(last, first + 1) + 1]), start, end)


def _grid(across: _Axis, up: _Axis) -> list[str]:
    found = []
    for tick in across.ticks:
        x = across.at(tick)
        found.append(_line(x, up.start, x, up.end))
        found.append(_text(x, up.start + 18, _number(tick), anchor="middle"))
    for tick in up.ticks:
        y = up.at(tick)
        found.append(_line(across.start, y, across.end, y))
        found.append(_text(across.start - 8, y + 4, _number(tick), anchor="end"))
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _point(one: Point, place: tuple[float, float], box: Box) -> list[str]:
    (x, y), colour = place, one.side.value
    right = box.x > x
    edge, middle = box.x if right else box.x + box.width, box.y + _LINE / 2
    lead = [_line(x, y, edge, middle, colour=colour)] if abs(middle - y) > 1 else []
    anchor = "start" if right else "end"
    return [
        *lead,
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        _text(edge, middle + 4, one.title, anchor=anchor, colour=colour),
    ]


def _line(x1: float, y1: float, x2: float, y2: float, *, colour: str = _GRID) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, size: int = _SIZE, anchor: str = "start", colour: str = _INK) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{saxutils.escape(text)}</text>"
