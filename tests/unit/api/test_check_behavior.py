from __future__ import annotations

from typing import Any

import pytest

from mlship.api import check_behavior


def fields(behavior: dict[str, Any]) -> list[str]:
    return [problem.field for problem in check_behavior.check_behavior(behavior, ("b",))]


def policy(**more: Any) -> dict[str, Any]:
    return {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60, **more}]}}


@pytest.mark.parametrize(
    ("behavior", "where"),
    [
        ({}, []),
        ({"scaleUp": {}, "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 3600}}, []),
        (policy(), []),
        (policy(type="Percent", value=1000), []),
        ({"scaleDown": {"tolerance": "50m"}}, []),
        ({"scaleDown": {"tolerance": "-1"}}, ["b.scaleDown.tolerance"]),
        ({"scaleDown": {"tolerance": 1}}, ["b.scaleDown.tolerance"]),
        ({"scaleUp": {"stabilizationWindowSeconds": -1}}, ["b.scaleUp.stabilizationWindowSeconds"]),
        ({"scaleUp": {"stabilizationWindowSeconds": 3601}}, ["b.scaleUp.stabilizationWindowSeconds"]),
        ({"scaleUp": {"selectPolicy": "max"}}, ["b.scaleUp.selectPolicy"]),
        (policy(type="pods"), ["b.scaleUp.policies[0].type"]),
        (policy(value=0), ["b.scaleUp.policies[0].value"]),
        (policy(periodSeconds=1801), ["b.scaleUp.policies[0].periodSeconds"]),
    ],
)
def test_rules(behavior: dict[str, Any], where: list[str]) -> None:
    assert fields(behavior) == where


def test_a_misspelt_choice_gets_the_nearest() -> None:
    (found,) = check_behavior.check_behavior({"scaleDown": {"selectPolicy": "disabled"}}, ())
    assert found.hint == "did you mean Disabled?"
