from __future__ import annotations

from typing import Any

import pytest

from mlship.api import check_container, container


def fields(containers: list[dict[str, Any]], *path: str) -> list[str]:
    made = [container.Container.model_validate({"name": f"c{index}", **one}) for index, one in enumerate(containers)]
    return [problem.field for problem in check_container.check_containers(made, path or ("x",))]


@pytest.mark.parametrize(
    ("one", "where"),
    [
        ({"name": "Bad"}, "x[0].name"),
        ({"name": "trailing "}, "x[0].name"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "x[0].env[1].name"),
        ({"env": [{"name": "1A"}]}, "x[0].env[0].name"),
        ({"env": [{"name": "A=B"}]}, "x[0].env[0].name"),
        ({"env": [{"name": "PYTHONPATH"}]}, "x[0].env[0].name"),
        ({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "y"}}}]}, "x[0].env[0]"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "x[0].env[0].valueFrom"),
        ({"ports": [{"containerPort": 0}]}, "x[0].ports[0].containerPort"),
        ({"ports": [{"containerPort": 80}, {"containerPort": 80}]}, "x[0].ports[1].containerPort"),
        ({"ports": [{"containerPort": 80, "protocol": "tcp"}]}, "x[0].ports[0].protocol"),
        (
            {"volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/a"}]},
            "x[0].volumeMounts[1].mountPath",
        ),
        ({"resources": {"limits": {"cpu": "-1"}}}, "x[0].resources.limits.cpu"),
        (
            {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1000M"}}},
            "x[0].resources.requests.memory",
        ),
        ({"startupProbe": {"httpGet": {"path": "/"}}}, "x[0].startupProbe.httpGet.port"),
        ({"livenessProbe": {"tcpSocket": {}}}, "x[0].livenessProbe.tcpSocket.port"),
    ],
)
def test_broken_rules(one: dict[str, Any], where: str) -> None:
    assert fields([one]) == [where]


@pytest.mark.parametrize(
    "one",
    [
        {"env": [{"name": "my.var-1", "value": "x"}, {"name": "B"}]},
        {"ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]},
        {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5"}}},
        {"livenessProbe": {"exec": {"command": ["true"]}}},
    ],
)
def test_kept_rules(one: dict[str, Any]) -> None:
    assert fields([one]) == []


def test_names_are_unique() -> None:
    assert fields([{"name": "a"}, {"name": "a"}]) == ["x[1].name"]


def test_knative_fills_in_the_port_of_a_serving_containers_probe() -> None:
    one = {"readinessProbe": {"httpGet": {"path": "/"}}}
    assert fields([one], "spec", "predictor", "containers") == []
    assert fields([one], "spec", "predictor", "initContainers") != []
    assert fields([one], "spec", "containers") != []
