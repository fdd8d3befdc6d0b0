from __future__ import annotations

from mlship.server import states


def test_versions_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["10", "2", "a"], key=states.by_number) == ["a", "2", "10"]
