"""Whatever is written into an object: it is typed, or every problem is a sentence with a place. Never an exception."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.api import honour, load, problems, runtime, service

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["1e999999", "-1", "9" * 200, "{{.X}}", "s3://", "https://[", "a://b", "..", "/", "\n", "1e1.5", "0"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)

MODEL: dict[str, Any] = {
    "modelFormat": {"name": "sklearn", "version": "1"},
    "storageUri": "/models/iris",
    "protocolVersion": "v2",
    "runtime": "mlship-sklearn",
    "args": ["--a"],
    "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"key": "k"}}}],
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": 2, "nvidia.com/gpu": 1}},
    "ports": [{"containerPort": 80}],
    "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
    "confidential": {"enabled": False, "resourceId": "x"},
}
PREDICTOR: dict[str, Any] = {
    "model": MODEL,
    "minReplicas": 1,
    "maxReplicas": 2,
    "timeout": 5,
    "containers": [{"name": "a", "command": ["b"]}],
    "storageUris": [{"uri": "/a", "mountPath": "/b"}, {"uri": "/c", "mountPath": "/d"}],
    "autoScaling": {"metrics": [{"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "1"}}}]},
    "tolerations": [{"key": "a"}],
    "logger": {"storage": {"path": "/a", "parameters": {"a": "b"}}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "iris",
        "labels": {"a": "b"},
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "keda",
            "serving.kserve.io/stop": "false",
        },
    },
    "spec": {
        "predictor": PREDICTOR,
        "transformer": {"containers": [{"name": "t"}]},
        "explainer": {"art": {"type": "SquareAttack"}},
        "canary": [{"trafficPercent": 5, "predictor": {"name": "two", "sklearn": {"storageUri": "/m"}}}],
    },
}


def paths(value: Any, here: problems.Path = ()) -> list[problems.Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, one in inner for path in paths(one, (*here, key)))]


PATHS = [path for path in paths(SERVICE) if path]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere(changes: list[tuple[problems.Path, Any]]) -> None:
    raw: Any = copy.deepcopy(SERVICE)
    for path, value in changes:
        with contextlib.suppress(KeyError, IndexError, TypeError):
            functools.reduce(operator.getitem, path[:-1], raw)[path[-1]] = value
    try:
        found = load.parse(raw)
    except problems.InvalidObject as error:
        assert error.problems
        assert all(one.reason for one in error.problems)
        return
    for one in honour.judge(found, cluster=runtime.builtin()):
        assert one.reason
    if isinstance(found, service.InferenceService):
        resolved = service.effective(found)
        assert resolved.stopped or 0 <= resolved.min_replicas <= resolved.max_replicas
