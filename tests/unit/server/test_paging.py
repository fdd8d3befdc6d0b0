from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from mlship.server import paging

SIZES = strategies.integers(0, 2**30)


@strategies.composite
def views(draw: strategies.DrawFn) -> paging.View:
    pages = [
        paging.Page(number, size, used, busy)
        for number, (size, used, busy) in enumerate(
            draw(strategies.lists(strategies.tuples(SIZES, strategies.floats(0, 1e6), strategies.booleans())))
        )
    ]
    base = draw(SIZES)
    return paging.View(
        measured=base + sum(page.size for page in pages),
        budget=draw(strategies.integers(1, 2**32)),
        own=draw(SIZES),
        coming=draw(SIZES),
        pages=pages,
    )


@hypothesis.given(views())
def test_who_is_in_use_never_leaves_and_nobody_leaves_twice(view: paging.View) -> None:
    decision = paging.decide(view)
    assert not {page.key for page in view.pages if page.busy} & set(decision.evict)
    assert len(set(decision.evict)) == len(decision.evict)


@hypothesis.given(views())
def test_who_leaves_was_used_no_later_than_who_stays(view: paging.View) -> None:
    leaving = set(paging.decide(view).evict)
    stays = [page.used for page in view.pages if page.key not in leaving and not page.busy]
    assert all(page.used <= used for page in view.pages if page.key in leaving for used in stays)


@hypothesis.given(views())
def test_it_ends_within_the_budget_wherever_the_idle_can_make_that_so(view: paging.View) -> None:
    decision = paging.decide(view)
    sizes = {page.key: page.size for page in view.pages}
    idle = sum(page.size for page in view.pages if not page.busy)
    left = view.short - sum(sizes[key] for key in decision.evict)
    if view.short <= idle and decision.verdict is not paging.Verdict.NEVER:
        assert decision.verdict is paging.Verdict.GO
        assert left <= 0
    if decision.verdict is paging.Verdict.GO and view.own:
        assert left <= view.budget * paging.SPARE


@hypothesis.given(views())
def test_nobody_leaves_without_need_nor_for_one_that_cannot_come(view: paging.View) -> None:
    decision = paging.decide(view)
    if paging.fits(view) or decision.verdict is not paging.Verdict.GO:
        assert not decision.evict


def test_once_somebody_leaves_enough_do_for_a_few_to_come() -> None:
    pages = [paging.Page(number, 10, number) for number in range(100)]
    decision = paging.decide(paging.View(measured=1000, budget=1000, own=10, pages=pages))
    assert decision.evict == (0, 1, 2, 3, 4, 5)


def test_who_is_idle_stays_while_those_in_use_keep_another_from_coming() -> None:
    pages = [paging.Page("busy", 900, 1.0, busy=True), paging.Page("idle", 50, 0.0)]
    view = paging.View(measured=950, budget=1000, own=200, pages=pages)
    assert paging.decide(view) == paging.Decision(paging.Verdict.WAIT)


def test_a_model_larger_than_what_is_left_for_models_never_comes() -> None:
    pages = [paging.Page("a", 500, 1.0, busy=True)]
    view = paging.View(measured=600, budget=1000, own=950, pages=pages)
    assert paging.decide(view).verdict is paging.Verdict.NEVER
    assert paging.decide(paging.View(measured=600, budget=1000, own=890, pages=pages)) == paging.Decision(
        paging.Verdict.WAIT
    )


def test_growth_is_shared_by_those_who_were_under_way() -> None:
    ledger = paging.Ledger()
    ledger.begin("a", 100)
    ledger.begin("b", 110)  # 10 for a
    assert ledger.end("a", 150) == 30  # 20 each
    assert len(ledger) == 1
    ledger.left(50)
    assert ledger.end("b", 105) == 25  # 100 stayed, 5 came
    ledger.begin("c", 105)
    assert ledger.end("c", 90) == 0


@hypothesis.given(
    strategies.lists(strategies.tuples(strategies.integers(0, 3), strategies.integers(0, 1000))),
    strategies.lists(strategies.integers(0, 1000), min_size=4, max_size=4),
)
def test_what_is_given_out_is_what_the_process_grew_by(events: list[tuple[int, int]], expected: list[int]) -> None:
    ledger, measured, inside, given = paging.Ledger(), 0, set(), 0
    for key, grown in events:
        measured += grown if inside else 0
        if key in inside:
            inside.remove(key)
            given += ledger.end(key, measured)
        else:
            inside.add(key)
            ledger.begin(key, measured, expected=expected[key])
    for key in inside:
        given += ledger.end(key, measured)
    assert abs(given - measured) <= len(events)


def test_a_small_model_does_not_weigh_what_a_large_one_beside_it_grew_by() -> None:
    ledger = paging.Ledger()
    ledger.begin("small", 0, expected=10)
    ledger.begin("large", 0, expected=990)
    assert ledger.end("small", 1000) == 10
    assert ledger.end("large", 1000) == 990


def test_a_weight_is_never_nothing_and_libraries_are_nobodys() -> None:
    expected = paging.expected(on_disk=1000)
    assert expected > 1000
    assert paging.weight(grown=0, expected=expected, imported=False) == expected
    assert paging.weight(grown=10**9, expected=expected, imported=False) == 10**9
    assert paging.weight(grown=10**9, expected=expected, imported=True) == expected


def test_a_failed_one_is_tried_again_ever_more_seldom() -> None:
    assert [paging.retry_after(count) for count in (1, 2, 3, 100)] == [1.0, 2.0, 4.0, 60.0]
    assert paging.retry_after(0) == pytest.approx(1.0)
