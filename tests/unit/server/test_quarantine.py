from __future__ import annotations

import hypothesis
from hypothesis import strategies

from mlship.server import quarantine

A, B, C = (quarantine.Mark((name, "1"), "x", "running") for name in "abc")


def counts(records: quarantine.Records, *, now: float = 0.0) -> dict[str, int]:
    return {key[0]: quarantine.strikes(records, key, "x", now=now) for key in records}


def test_everybody_who_was_there_gets_a_strike() -> None:
    assert counts(quarantine.after_death({}, [A, B], now=0.0)) == {"a": 1, "b": 1}


def test_who_had_one_before_is_the_likelier_cause() -> None:
    once = quarantine.after_death({}, [A], now=0.0)
    assert counts(quarantine.after_death(once, [A, B, C], now=1.0)) == {"a": 2}


def test_a_replaced_model_and_time_begin_anew() -> None:
    once = quarantine.after_death({}, [A], now=0.0)
    assert quarantine.strikes(once, A.key, "another", now=0.0) == 0
    assert quarantine.strikes(once, A.key, "x", now=quarantine.FORGET + 1) == 0
    later = quarantine.after_death(once, [B], now=quarantine.FORGET + 1)
    assert set(later) == {B.key}


@hypothesis.given(strategies.lists(strategies.sets(strategies.sampled_from("bcdef"))))
def test_alone_among_suspects_the_cause_is_kept_out_second_and_others_are_not(others: list[set[str]]) -> None:
    records: dict[quarantine.Key, quarantine.Record] = {}
    for number, names in enumerate(others):
        # Whoever has a strike runs alone among those that have: the cause is the one there.
        there = [name for name in names if not quarantine.strikes(records, (name, "1"), "x", now=number)]
        marks = [quarantine.Mark((name, "1"), "x", "running") for name in ("a", *there)]
        records = quarantine.after_death(records, marks, now=number)
        if number:
            assert quarantine.strikes(records, ("a", "1"), "x", now=number) >= quarantine.LIMIT
    assert all(count < quarantine.LIMIT for name, count in counts(records).items() if name != "a")
