from __future__ import annotations

from mlship.server import refusals


def test_the_nearest_name_is_offered() -> None:
    error = refusals.unknown("petal_widht", ["petal_width", "sepal_width"], what="column", label="model")
    assert error.hint == 'Did you mean "petal_width"?'


def test_nothing_like_it_offers_nothing() -> None:
    assert refusals.unknown("zzz", ["a"], what="input", label="model").hint == ""


def test_long_lists_and_long_names_are_cut() -> None:
    text = refusals.unknown("x" * 10_000, [f"column {number}" for number in range(500)], what="column", label="m")
    assert len(str(text)) < 400
    assert "and 488 more" in text.message


def test_nothing_to_choose_from() -> None:
    assert refusals.listed([], "output") == "no output"
