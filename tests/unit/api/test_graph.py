from __future__ import annotations

from mlship.api import graph, load


def test_a_graph_is_typed() -> None:
    steps = [{"serviceName": "a", "weight": 40}, {"serviceName": "b", "weight": 60}]
    raw = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": "g"},
        "spec": {"nodes": {"root": {"routerType": "Splitter", "steps": steps}}},
    }
    found = load.parse(raw)
    assert isinstance(found, graph.InferenceGraph)
    assert [step.weight for step in found.spec.nodes["root"].steps or ()] == [40, 60]
