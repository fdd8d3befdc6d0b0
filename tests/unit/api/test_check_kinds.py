from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import check_kinds, extras, graph, runtime

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({}, []),
        ({"containers": []}, ["spec.containers"]),
        ({"protocolVersions": ["v1", "V2"]}, ["spec.protocolVersions[1]"]),
        ({"containers": [{"name": "a", "args": ["{{.Name}}", "{{.Nam}}"]}]}, ["spec.containers[0].args[1]"]),
        (
            {
                "supportedModelFormats": [
                    {"name": "a", "version": "1", "autoSelect": True, "priority": 1},
                    {"name": "a", "version": "2", "autoSelect": True, "priority": 2},
                ]
            },
            ["spec.supportedModelFormats[1].priority"],
        ),
    ],
)
def test_runtimes(spec: dict[str, Any], where: list[str], raw_runtime: Make) -> None:
    made = runtime.RuntimeSpec.model_validate(raw_runtime("mine", **spec)["spec"])
    assert [problem.field for problem in check_kinds.check_runtime(made)] == where


def nodes(*steps: dict[str, Any], kind: str = "Sequence", root: str = "root") -> graph.GraphSpec:
    return graph.GraphSpec.model_validate({"nodes": {root: {"routerType": kind, "steps": list(steps)}}})


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        (nodes({"serviceName": "a"}), []),
        (nodes(root="rot"), ["spec.nodes"]),
        (
            nodes({"name": "x", "serviceName": "a"}, {"name": "x", "serviceName": "b"}),
            ["spec.nodes.root.steps[1].name"],
        ),
        (nodes({"name": "x"}), ["spec.nodes.root.steps[0]"]),
        (nodes({"serviceName": "a", "serviceUrl": "b"}), ["spec.nodes.root.steps[0]"]),
        (nodes({"nodeName": "roott"}), ["spec.nodes.root.steps[0].nodeName"]),
        (nodes({"serviceName": "a"}, kind="Splitter"), ["spec.nodes.root.steps[0].weight"]),
        (nodes({"serviceName": "a", "weight": 90}, kind="Splitter"), ["spec.nodes.root.steps"]),
        (nodes({"serviceName": "a", "weight": 100}, kind="Splitter"), []),
    ],
)
def test_graphs(spec: graph.GraphSpec, where: list[str]) -> None:
    assert [problem.field for problem in check_kinds.check_graph(spec)] == where


def test_trained_models() -> None:
    model = {"storageUri": "", "framework": "sklearn", "memory": "1Gi"}
    made = extras.TrainedModelSpec.model_validate({"inferenceService": "Not A Name", "model": model})
    found = [problem.field for problem in check_kinds.check_trained_model(made)]
    assert found == ["spec.inferenceService", "spec.model.storageUri"]


def test_storage_containers() -> None:
    formats = [{"prefix": "a://"}, {}, {"prefix": "a", "regex": "b"}, {"regex": "("}]
    made = extras.StorageContainerSpec.model_validate({"container": {"name": "a"}, "supportedUriFormats": formats})
    assert [problem.field for problem in check_kinds.check_storage_container(made)] == [
        "spec.supportedUriFormats[1]",
        "spec.supportedUriFormats[2]",
        "spec.supportedUriFormats[3].regex",
    ]
