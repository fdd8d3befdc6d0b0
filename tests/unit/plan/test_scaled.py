"""What a ScaledObject is told of its target."""

import pytest

from mlship.api import load, scaledobject
from mlship.plan import scaled
from mlship.plan.scaled import Standing

KEYS = "autoscaling.keda.sh/"


def made(name: str = "so", target: str = "iris", created: str = "", **annotations: str) -> scaledobject.ScaledObject:
    found = load.parse(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {
                "name": name,
                "namespace": "default",
                "annotations": {KEYS + key.replace("_", "-"): text for key, text in annotations.items()},
                **({"creationTimestamp": created} if created else {}),
            },
            "spec": {
                "scaleTargetRef": {"name": f"{target}-predictor"},
                "triggers": [
                    {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}},
                    {"type": "cpu", "name": "more", "metricType": "Utilization", "metadata": {"value": "60"}},
                    {"type": "memory", "metricType": "Utilization", "metadata": {"value": "50"}},
                ],
            },
        }
    )
    assert isinstance(found, scaledobject.ScaledObject)
    return found


def conditions(status: dict) -> dict[str, dict]:
    return {one["type"]: one for one in status["conditions"]}


def test_the_oldest_that_targets_a_service_comes_first():
    late, early = made("a", created="2026-02-01T00:00:00Z"), made("b", created="2026-01-01T00:00:00Z")
    assert scaled.ranked((late, made("c", "other"), early), "iris") == (early, late)
    assert scaled.standings((early, late), there=True, pooled=False) == (Standing.SCALES, Standing.SECOND)
    assert scaled.standings((early, late), there=False, pooled=False) == (Standing.GONE, Standing.GONE)
    assert scaled.standings((early,), there=True, pooled=True) == (Standing.POOLED,)


@pytest.mark.parametrize(
    ("standing", "ready", "words"),
    [
        (Standing.SCALES, "True", "scales InferenceService iris"),
        (Standing.GONE, "False", "target is gone: there is no InferenceService iris in namespace default"),
        (Standing.SECOND, "False", "scaled by ScaledObject first, which is older"),
        (Standing.POOLED, "False", "is in a pool"),
    ],
)
def test_the_status_has_kedas_shape(standing, ready, words):
    status = scaled.status(made(), standing, first="first")
    assert (status["scaleTargetKind"], status["triggersTypes"]) == ("apps/v1.Deployment", "cpu,memory")
    found = conditions(status)["Ready"]
    assert (found["status"], found["reason"]) == (ready, standing.value)
    assert words in found["message"]
    assert conditions(status)["Paused"] == {"type": "Paused", "status": "False", "reason": "NotPaused"}
    (cause,) = scaled.causes_of({"metadata": {"namespace": "default", "name": "so"}, "status": status})
    assert (cause.state == "Ready") is (ready == "True")
    assert bool(cause.fix) is (ready == "False")


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"paused": "true"}, "nothing is scaled while"),
        ({"paused_scale_in": "TRUE"}, "nothing is scaled in while"),
        ({"paused_scale_out": "true"}, "nothing is scaled out while"),
        ({"paused_replicas": "3", "paused": "true"}, "held at 3 by"),
        ({"paused": "false"}, ""),
    ],
)
def test_a_pause_is_told(annotations, words):
    status = scaled.status(made(**annotations), Standing.SCALES, first="so")
    found = conditions(status)["Paused"]
    assert found["status"] == str(bool(words))
    assert words in found.get("message", "")
    (cause,) = scaled.causes_of({"metadata": {"namespace": "default", "name": "so"}, "status": status})
    assert cause.state == ("Paused" if words else "Ready")


def test_one_that_nobody_has_looked_at_yet():
    (cause,) = scaled.causes_of({"metadata": {"namespace": "default", "name": "so"}})
    assert cause.state == "NotLookedAt"
