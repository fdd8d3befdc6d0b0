"""What is said of compiled models: of several replicas together, as a condition, and in words."""

from __future__ import annotations

import dataclasses

import pytest

from mlship.api import meta
from mlship.plan import acceleration, observed

KEY = observed.ServiceKey("default", "iris")
COMPILED = observed.Acceleration(
    observed.Answering.COMPILED,
    "auto",
    speed_ups=((1, 30.5), (64, 9.0)),
    rows=4000,
    outputs=("predict", "predict_proba"),
)
PROVING = observed.Acceleration(observed.Answering.PROVING, "auto", reason="the proof is under way")
ORIGINAL = observed.Acceleration(observed.Answering.ORIGINAL, "auto", reason="2 labels changed", rows=900, changed=2)
OFF = observed.Acceleration(observed.Answering.OFF, "off")


def replica(ordinal: int, said: observed.Acceleration | None) -> observed.Replica:
    name = observed.ReplicaId(KEY, "new", ordinal)
    return observed.Replica(name, observed.Phase.RUNNING, 0.0, ready=True, acceleration=said)


@pytest.mark.parametrize(
    ("said", "together"),
    [
        ((), None),
        ((None, None), None),
        ((None, COMPILED), COMPILED),
        ((COMPILED, PROVING), PROVING),
        ((COMPILED, ORIGINAL), ORIGINAL),
        ((ORIGINAL, PROVING), PROVING),
    ],
)
def test_several_replicas(
    said: tuple[observed.Acceleration | None, ...], together: observed.Acceleration | None
) -> None:
    assert acceleration.of(replica(at, one) for at, one in enumerate(said)) == together


@pytest.mark.parametrize(
    ("said", "truth", "reason", "message"),
    [
        (
            COMPILED,
            meta.Truth.TRUE,
            "Proven",
            "The compiled form answers predict, predict_proba: 30.5 times faster for 1 row, 9 times faster for "
            "64 rows, with the original's answers on all 4000 rows tried.",
        ),
        (
            dataclasses.replace(COMPILED, difference=2.3e-9, outputs=(), speed_ups=()),
            meta.Truth.TRUE,
            "Proven",
            "The compiled form answers: with the original's labels on all 4000 rows tried, and numbers that differ by "
            "2e-09 of their size at most.",
        ),
        (
            PROVING,
            meta.Truth.UNKNOWN,
            "Proving",
            "The original answers while a compiled form is compared with it.",
        ),
        (ORIGINAL, meta.Truth.FALSE, "NotProven", "The original answers: 2 labels changed."),
        (
            dataclasses.replace(ORIGINAL, reason=""),
            meta.Truth.FALSE,
            "NotProven",
            "The original answers: no reason was given.",
        ),
    ],
)
def test_the_condition(said: observed.Acceleration, truth: meta.Truth, reason: str, message: str) -> None:
    assert acceleration.condition(said) == meta.Condition("Accelerated", truth, reason, message)


def test_where_it_is_off_there_is_no_condition() -> None:
    assert acceleration.condition(None) is None
    assert acceleration.condition(OFF) is None
    assert acceleration.sentence(OFF) == "The original answers; compiling is switched off."


def test_the_part_of_the_status() -> None:
    assert acceleration.as_dict(OFF) == {"mode": "off", "state": "off"}
    assert acceleration.as_dict(PROVING) == {"mode": "auto", "state": "proving"}
    assert acceleration.as_dict(ORIGINAL) == {
        "mode": "auto",
        "state": "original",
        "reason": "2 labels changed",
        "proofRows": 900,
        "largestRelativeDifference": 0.0,
        "classesChanged": 2,
        "speedUp": {},
        "outputs": [],
    }
    assert acceleration.as_dict(COMPILED)["speedUp"] == {"1": 30.5, "64": 9.0}
