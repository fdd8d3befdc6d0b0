"""What a process of a pool says of its models, as facts: the body of its report. Pure.

It comes from a program that runs models of the user's, so every part is checked and cut to size; what is no report is
no fact, and never an error.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mlship.plan import observed

_LONGEST = 600


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The models of one process that were ever asked for. ``requests``: how many came for each since it began."""

    placements: Mapping[str, observed.Placement]
    requests: Mapping[str, int]


def read(body: bytes, replica: observed.ReplicaId) -> Report | None:
    """The report in ``body``, which came from ``replica``; None when there is none."""
    try:
        models = json.loads(body)["models"]
        placements: dict[str, observed.Placement] = {}
        requests: dict[str, int] = {}
        for one in models.values() if isinstance(models, dict) else models:
            name = str(one["name"])
            placements[name] = _placement(one, replica)
            requests[name] = int(one.get("hits") or 0) + int(one.get("misses") or 0)
        return Report(placements, requests)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _placement(one: Mapping[str, Any], replica: observed.ReplicaId) -> observed.Placement:
    kept_out = _text(one.get("quarantined"))
    reason = kept_out or _text(one.get("failing"))
    if one.get("loaded"):
        state = observed.Held.LOADED
    elif one.get("loading"):
        state = observed.Held.LOADING
    else:
        state = observed.Held.FAILED if reason else observed.Held.STANDBY
    return observed.Placement(
        replica=replica,
        state=state,
        reason=reason,
        digest=_text(one.get("digest")),
        size=int(one.get("bytes") or 0) or None,
        quarantined=bool(kept_out),
    )


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())[:_LONGEST]
