"""The rules of ``behavior`` (autoscaling/v2 validation): the same in an InferenceService and in a ScaledObject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlship.api import problems, quantity
from mlship.api.problems import Path, Problem

_SELECT = ("Max", "Min", "Disabled")
_UNITS = ("Pods", "Percent")


def check_behavior(behavior: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Windows, policies and tolerances of both directions."""
    for name in ("scaleUp", "scaleDown"):
        yield from _rules(behavior.get(name) or {}, (*path, name))


def _rules(rules: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    window = rules.get("stabilizationWindowSeconds", 0)
    if not 0 <= window <= 3600:
        yield problems.refuse((*path, "stabilizationWindowSeconds"), f"{window} is not in 0 to 3600")
    yield from _among(rules.get("selectPolicy", "Max"), _SELECT, (*path, "selectPolicy"))
    if "tolerance" in rules and not 0 <= quantity.number(rules["tolerance"]) < 1:
        yield problems.refuse((*path, "tolerance"), f"{rules['tolerance']} is not a share from 0 to below 1")
    for index, one in enumerate(rules.get("policies") or ()):
        here = (*path, "policies", index)
        yield from _among(one["type"], _UNITS, (*here, "type"))
        if one["value"] < 1:
            yield problems.refuse((*here, "value"), f"{one['value']} is not positive")
        if not 1 <= one["periodSeconds"] <= 1800:
            yield problems.refuse((*here, "periodSeconds"), f"{one['periodSeconds']} is not in 1 to 1800")


def _among(value: str, allowed: tuple[str, ...], path: Path) -> Iterator[Problem]:
    if value not in allowed:
        reason = f"{problems.cap(value, 40)!r} is not one of {problems.one_of(allowed)}"
        yield problems.refuse(path, reason, problems.did_you_mean(value, allowed))
