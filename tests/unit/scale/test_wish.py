"""What follows from what is asked for: rest, wake-ups, emergencies, and why something stays."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlship.scale import memory, policy, propose, readings, wish

NOW = 1_700_000_000.0
ZERO = policy.Policy(
    min_replicas=0, max_replicas=10, metrics=(policy.Metric("concurrency", policy.Kind.CONCURRENCY, 10),)
)
SEEN = readings.Readings(replicas=2, ready=2)
NOTHING = propose.Asked(0, "nothing is asked for", panic=0, panic_words="", active=False, unknown=())


def past(replicas: int, **more: Any) -> memory.Memory:
    begun = memory.begin(replicas, NOW - 1000)
    return dataclasses.replace(begun, **more)


def asked(wanted: int, **more: Any) -> propose.Asked:
    more.setdefault("active", True)
    return dataclasses.replace(NOTHING, wanted=wanted, words=f"the load asks for {wanted}", **more)


def make(known: memory.Memory, what: propose.Asked, *, made: policy.Policy = ZERO, **seen: Any) -> wish.Wish:
    return wish.make(made, known, what, dataclasses.replace(SEEN, **seen), NOW)


def test_what_rests_stays_until_somebody_comes() -> None:
    assert make(past(0), NOTHING) == wish.Wish(0, "nobody uses it", sudden=True, rests=True)
    assert make(past(0), dataclasses.replace(NOTHING, active=None)).words == "no use of it is known"


def test_a_caller_wakes_what_rests_and_so_many_are_insisted_on() -> None:
    many = dataclasses.replace(ZERO, activation=3)
    woken = wish.watched(many, past(0), asked(1), ready=0, now=NOW)
    assert (woken.reach, woken.reach_until) == (3, NOW + 600)
    found = make(woken, asked(1), made=many, waiting=2)
    assert found == wish.Wish(3, "2 callers wait at the gate", sudden=True)
    assert make(woken, asked(7), made=many).words == "the load asks for 7"
    assert make(woken, asked(7), made=many).replicas == 7
    assert make(woken, asked(1), made=many, waiting=1).words == "1 caller waits at the gate"


def test_activation_is_no_more_than_the_bound() -> None:
    many = dataclasses.replace(ZERO, activation=30)
    assert wish.watched(many, past(0), asked(1), ready=0, now=NOW).reach == 10


def test_nobody_for_the_cooldown_and_it_rests() -> None:
    slow = dataclasses.replace(ZERO, cooldown=300)
    assert make(past(2, active_at=NOW - 299), NOTHING, made=slow).replicas == 1
    found = make(past(2, active_at=NOW - 300), NOTHING, made=slow)
    assert found == wish.Wish(0, "nobody has used it for 360 s", sudden=True, rests=True)
    delayed = dataclasses.replace(ZERO, delay=30)
    assert make(past(2, active_at=NOW - 29), NOTHING, made=delayed).replicas == 1
    assert make(past(2, active_at=NOW - 30), NOTHING, made=delayed).replicas == 0


def test_idle_replicas_are_fewer_than_the_minimum() -> None:
    idle = dataclasses.replace(ZERO, min_replicas=4, idle_replicas=1)
    assert make(past(4), NOTHING, made=idle).replicas == 1
    assert make(past(1), NOTHING, made=idle).replicas == 1
    assert wish.watched(idle, past(1), asked(1), ready=1, now=NOW).reach == 4


def test_without_a_minimum_below_nothing_ever_rests() -> None:
    warm = dataclasses.replace(ZERO, min_replicas=1)
    assert make(past(3), NOTHING, made=warm) == wish.Wish(1, "nothing is asked for; at least 1")


def test_zero_needs_a_gate() -> None:
    found = make(past(1), NOTHING, gated=False)
    assert found == wish.Wish(1, "nobody uses it, but the gate that would wake it is not there")


def test_what_is_not_known_shrinks_nothing_and_may_grow() -> None:
    partly = asked(1, unknown=("cpu is not known",))
    assert make(past(4), partly) == wish.Wish(4, "the load asks for 1; cpu is not known, so nothing shrinks")
    assert make(past(4), dataclasses.replace(partly, wanted=6)).replicas == 6
    assert make(past(4), dataclasses.replace(NOTHING, active=None, unknown=("x",))).replicas == 4


def test_nothing_shrinks_before_a_full_window_was_watched() -> None:
    found = make(past(4, since=NOW - 59), asked(1))
    assert found.words == "the load asks for 1; watched for 59 of 60 s, so nothing shrinks"
    assert found.replicas == 4
    assert make(past(4, since=NOW - 60), asked(1)).replicas == 1
    assert make(past(4, since=NOW - 59), NOTHING).replicas == 4


def test_nothing_shrinks_before_those_it_began_with_are_ready() -> None:
    found = make(past(4, reach=4, reach_until=NOW + 9), asked(1))
    assert found.replicas == 4


def test_a_jump_is_an_emergency_for_a_stable_window() -> None:
    jump = asked(2, panic=4, panic_words="the jump asks for 4")
    alarmed = wish.watched(ZERO, past(2), jump, ready=2, now=NOW)
    assert alarmed.panic_at == NOW
    assert make(alarmed, jump) == wish.Wish(4, "the jump asks for 4")
    over = asked(1, panic=1)
    held = dataclasses.replace(past(4), panic_at=NOW - 10)
    assert make(held, over) == wish.Wish(4, "the load asks for 1; the load jumped 10 s ago, so nothing shrinks")
    assert wish.watched(ZERO, held, over, ready=4, now=NOW).panic_at == NOW - 10
    assert wish.watched(ZERO, held, over, ready=4, now=NOW + 50).panic_at is None


def test_what_the_ready_ones_can_bear_is_no_emergency() -> None:
    assert wish.watched(ZERO, past(2), asked(2, panic=3), ready=2, now=NOW).panic_at is None
    assert wish.watched(ZERO, past(2), asked(2, panic=None), ready=2, now=NOW).panic_at is None


def test_use_is_remembered_and_not_knowing_counts_as_use() -> None:
    known = past(2, active_at=NOW - 100)
    for active, at in ((True, NOW), (None, NOW), (False, NOW - 100)):
        assert wish.watched(ZERO, known, asked(1, active=active), ready=2, now=NOW).active_at == at
