from __future__ import annotations

from typing import Any

import pytest

from mlship.api import autoscaling, component

K = autoscaling.KNATIVE


@pytest.mark.parametrize(
    ("key", "value", "name", "read"),
    [
        (f"{K}class", "hpa.autoscaling.knative.dev", "knative", "hpa.autoscaling.knative.dev"),
        (f"{K}metric", "rps", "metric", "rps"),
        (f"{K}target", "0.5", "target", 0.5),
        (f"{K}target-utilization-percentage", "80", "utilization", 80.0),
        (f"{K}targetUtilizationPercentage", "80", "utilization", 80.0),
        (f"{K}min-scale", "0", "least", 0),
        (f"{K}minScale", "2", "least", 2),
        (f"{K}max-scale", "9", "most", 9),
        (f"{K}initialScale", "0", "initial", 0),
        (f"{K}activation-scale", "3", "activation", 3),
        (f"{K}window", "1m30s", "window", 90.0),
        (f"{K}panic-window-percentage", "20.5", "panic_window", 20.5),
        (f"{K}panicThresholdPercentage", "150", "panic_threshold", 150.0),
        (f"{K}scale-down-delay", "15m", "delay", 900.0),
        (f"{K}scale-to-zero-pod-retention-period", "1m5s", "retention", 65.0),
        ("serving.kserve.io/autoscalerClass", "keda", "autoscaler", "keda"),
        ("serving.kserve.io/metrics", "memory", "hpa_metric", "memory"),
        ("serving.kserve.io/targetUtilizationPercentage", "55", "hpa_utilization", 55),
        (autoscaling.SCALE_LATENCY, "250ms", "latency", 0.25),
        (autoscaling.SCALE_QUEUE, "10", "queue", 10.0),
        (autoscaling.HOLD_SECONDS, "30", "hold", 30.0),
        (autoscaling.HOLD_REQUESTS, "50", "places", 50),
    ],
)
def test_what_is_written_is_read(key: str, value: str, name: str, read: object) -> None:
    assert not list(autoscaling.check({key: value}, ()))
    assert getattr(autoscaling.read({key: value}), name) == read


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class", "mine.autoscaling.knative.dev"),
        ("metric", "qps"),
        ("target", "0"),
        ("target", "nan"),
        ("target", " 5"),
        ("target-utilization-percentage", "0"),
        ("min-scale", "-1"),
        ("max-scale", "1.5"),
        ("initial-scale", "١"),
        ("activation-scale", "0"),
        ("window", "5s"),
        ("window", "60"),
        ("window", "2h"),
        ("panic-window-percentage", "101"),
        ("panic-threshold-percentage", "100"),
        ("scale-down-delay", "-5s"),
        ("scale-to-zero-pod-retention-period", "61m"),
    ],
)
def test_what_is_wrong_is_said_and_counts_as_not_written(key: str, value: str) -> None:
    (found,) = autoscaling.check({K + key: value}, ("metadata", "annotations"))
    assert found.path == ("metadata", "annotations", K + key)
    assert autoscaling.read({K + key: value}) == autoscaling.Written()


def test_two_spellings_that_differ_are_refused() -> None:
    both = {f"{K}min-scale": "1", f"{K}minScale": "2"}
    (found,) = autoscaling.check(both, ())
    assert found.path == (f"{K}minScale",)
    assert not list(autoscaling.check({**both, f"{K}minScale": "1"}, ()))


@pytest.mark.parametrize(
    ("part", "written", "bounds"),
    [
        ({}, {}, (1, None)),
        ({"minReplicas": 0, "maxReplicas": 0}, {}, (0, None)),
        ({"minReplicas": 2}, {f"{K}min-scale": "5", f"{K}max-scale": "7"}, (2, 7)),
        ({"maxReplicas": 3}, {f"{K}max-scale": "7"}, (1, 3)),
    ],
)
def test_a_field_holds_against_an_annotation(
    part: dict[str, Any], written: dict[str, str], bounds: tuple[int, int | None]
) -> None:
    made = component.Component.model_validate(part)
    found = autoscaling.bounds(made, autoscaling.read(written))
    assert (found.least, found.most) == bounds
