from __future__ import annotations

from typing import Any

import pytest

from mlship.plan import speed
from mlship.scale import policy as policies


@pytest.mark.parametrize("written", [None, {}, {"scaleUp": {}}, {"scaleDown": {"policies": []}}])
def test_what_is_not_written_is_kubernetes_default(written: dict[str, Any] | None) -> None:
    assert speed.of(written) == policies.KUBERNETES


def test_a_direction_that_is_disabled_says_nothing_of_the_other() -> None:
    found = speed.of({"scaleDown": {"selectPolicy": "Disabled"}})
    assert (found.up, found.down.select) == (policies.KUBERNETES.up, policies.Select.DISABLED)


@pytest.mark.parametrize(
    ("written", "share"),
    [
        (None, 0.1),
        ({"scaleUp": {"policies": []}}, 0.1),
        ({"scaleDown": {"tolerance": "50m"}}, 0.05),
        ({"scaleUp": {"tolerance": 0}, "scaleDown": {"tolerance": 0}}, 0.0),
    ],
)
def test_tolerance(written: dict[str, Any] | None, share: float) -> None:
    assert speed.tolerance(written) == share
