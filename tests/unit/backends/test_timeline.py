"""Time that passes only when told."""

from __future__ import annotations

from mlship.backends import timeline


def test_what_falls_due_happens_in_order_at_its_time() -> None:
    time = timeline.Timeline(10.0)
    seen: list[tuple[str, float]] = []
    time.later(2.0, "b", lambda: seen.append(("b", time.now)))
    time.later(1.0, "a", lambda: seen.append(("a", time.now)))
    time.later(2.0, "c", lambda: seen.append(("c", time.now)))
    assert time.next() == 11.0
    time.advance(2.0)
    assert seen == [("a", 11.0), ("b", 12.0), ("c", 12.0)]
    assert time.next() is None
    assert time.now == 12.0


def test_what_happens_may_bring_more() -> None:
    time = timeline.Timeline(0.0)
    seen: list[float] = []

    def again() -> None:
        seen.append(time.now)
        time.later(1.0, "again", again)

    again()
    time.advance(3.0)
    assert seen == [0.0, 1.0, 2.0, 3.0]


def test_a_later_event_of_the_same_key_replaces_the_first() -> None:
    time = timeline.Timeline(0.0)
    seen: list[str] = []
    time.later(1.0, "x", lambda: seen.append("first"))
    time.later(2.0, "x", lambda: seen.append("second"))
    assert time.waits("x")
    time.advance(5.0)
    assert seen == ["second"]
    time.later(1.0, "x", lambda: seen.append("third"))
    time.cancel("x")
    time.cancel("x")
    time.advance(5.0)
    assert seen == ["second"]
