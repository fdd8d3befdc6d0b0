"""``behavior`` of autoscaling/v2 as the scaler's own record: what is not written is Kubernetes' default. Pure.

The shape was checked when the object was; here only the values are taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlship.api import quantity
from mlship.scale import policy as policies

# No limit of Knative's kind: how fast it goes is said by behavior alone.
UNLIMITED = 1e6


def of(written: Mapping[str, Any] | None, base: policies.Behavior = policies.KUBERNETES) -> policies.Behavior:
    """The behaviour, field by field over ``base``."""
    written = written or {}
    return policies.Behavior(
        up=_rules(written.get("scaleUp") or {}, base.up), down=_rules(written.get("scaleDown") or {}, base.down)
    )


def tolerance(written: Mapping[str, Any] | None) -> float:
    """The tolerance of both directions (``honour`` refuses two different ones)."""
    for direction in ("scaleUp", "scaleDown"):
        found = ((written or {}).get(direction) or {}).get("tolerance")
        if found is not None:
            return float(quantity.number(found))
    return policies.TOLERANCE


def _rules(written: Mapping[str, Any], base: policies.Rules) -> policies.Rules:
    rates = tuple(
        policies.Rate(policies.Unit(one["type"]), one["value"], float(one["periodSeconds"]))
        for one in written.get("policies") or ()
    )
    return policies.Rules(
        window=float(written.get("stabilizationWindowSeconds", base.window)),
        rates=rates or base.rates,
        select=policies.Select(written.get("selectPolicy", base.select.value)),
    )
