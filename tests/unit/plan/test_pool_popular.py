"""Which models get a copy everywhere: the bounds, the hysteresis, and what a restart of a process does to counts."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlship.plan import pool_popular

EVERY = pool_popular.EVERY


def lived(*rates: dict[str, float], processes: int = 2, each: int = 5) -> pool_popular.Memory:
    """The memory after models were asked for at these rates, one after the other, ``each`` intervals long."""
    memory, now, counts = pool_popular.Memory(), 0.0, dict.fromkeys({name for one in rates for name in one}, 0)
    memory = pool_popular.decide(memory, counts, now, processes=processes)
    for rate in itertools.chain.from_iterable([one] * each for one in rates):
        now += EVERY
        counts = {name: count + round(rate.get(name, 0.0) * EVERY) for name, count in counts.items()}
        memory = pool_popular.decide(memory, counts, now, processes=processes)
    return memory


def test_one_that_takes_more_than_its_process_is_popular():
    assert set(lived({"iris": 100.0, "wine": 10.0}).hot) == {"iris"}
    assert set(lived({"iris": 100.0, "wine": 90.0}).hot) == {"iris"}
    assert set(lived({"iris": 100.0, "wine": 90.0, "bean": 80.0}).hot) == set()


def test_few_requests_make_nobody_popular_nor_does_a_pool_of_one():
    assert not lived({"iris": pool_popular.LEAST * 0.9}).hot
    assert not lived({"iris": 1000.0}, processes=1).hot


def test_it_stays_so_while_it_keeps_half_and_a_while_after():
    busy, half, quiet = {"iris": 100.0}, {"iris": 30.0, "wine": 60.0}, {"wine": 60.0}
    assert "iris" in lived(busy, half, each=40).hot
    assert "iris" in lived(busy, quiet, each=5).hot
    assert "iris" not in lived(busy, quiet, each=int(pool_popular.QUIET / EVERY) + 8).hot


def test_a_process_that_begins_anew_counts_from_zero_and_makes_no_rate_negative():
    memory = pool_popular.decide(pool_popular.Memory(), {"iris": 10_000}, 0.0, processes=2)
    memory = pool_popular.decide(memory, {"iris": 5}, EVERY, processes=2)
    assert all(rate >= 0 for rate in memory.rates.values())
    assert not memory.hot


def test_what_was_counted_before_the_first_look_says_nothing():
    memory = pool_popular.decide(pool_popular.Memory(), {"iris": 10**9}, 0.0, processes=2)
    assert not pool_popular.decide(memory, {"iris": 10**9}, EVERY, processes=2).hot


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**6)), max_size=12), st.integers(1, 8))
def test_never_more_are_popular_than_can_be(samples, processes):
    memory = pool_popular.Memory()
    for number, counts in enumerate(samples):
        memory = pool_popular.decide(memory, counts, number * EVERY, processes=processes)
        newly = [name for name, at in memory.hot.items() if at == number * EVERY]
        assert len(newly) <= processes / pool_popular.STAYS
        assert processes > 1 or not memory.hot
