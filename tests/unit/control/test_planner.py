"""Stored objects through the real plan."""

from __future__ import annotations

import pytest

from mlship import errors
from mlship.control import planner, seams
from mlship.plan import actions, observed


def stored(body: dict) -> dict:
    body["metadata"] |= {
        "uid": "u",
        "resourceVersion": "3",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return body


def test_a_new_service_begins_with_its_model(service):
    world = seams.World(stored(service()))
    decision = planner.Planner().decide(world, observed.Observed(), now=0.0)
    assert [type(one) for one in decision.actions] == [actions.FetchArtifact]
    assert decision.status is not None
    assert decision.status["observedGeneration"] == 1
    assert decision.route is not None
    assert "fetch the model" in decision.summary
    again = planner.Planner().decide(world, observed.Observed(), now=0.0)
    assert again == decision


def test_a_deleted_service_with_nothing_left_is_finished(service):
    body = stored(service())
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    decision = planner.Planner().decide(seams.World(body), observed.Observed(), now=0.0)
    assert decision.finished
    assert decision.route is None


def test_the_chain_speaks_of_the_status_that_was_written(service):
    body = stored(service())
    world = seams.World(body)
    assert planner.Planner().explain(world, observed.Observed(), now=0.0)[0].state == "NotLookedAt"
    decision = planner.Planner().decide(world, observed.Observed(), now=0.0)
    told = planner.Planner().explain(seams.World(body | {"status": decision.status}), observed.Observed(), now=0.0)
    assert told[0].state == "NotReady"


def test_a_runtime_that_is_no_longer_understood_is_left_out(service, caplog):
    broken = stored({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime",
                     "metadata": {"name": "old", "namespace": "default"}, "spec": {"unknown": 1}})  # fmt: skip
    decision = planner.Planner().decide(
        seams.World(stored(service()), namespaced=(broken,)), observed.Observed(), now=0.0
    )
    assert decision.actions
    assert "old is left out" in caplog.text


def test_a_service_that_is_no_longer_understood_is_an_error(service):
    body = stored(service())
    body["spec"]["unknown"] = 1
    with pytest.raises(errors.SpecError, match="unknown"):
        planner.Planner().decide(seams.World(body), observed.Observed(), now=0.0)
    wrong = stored(service()) | {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime"}
    wrong["spec"] = {"containers": [{"name": "kserve-container", "image": "x"}], "supportedModelFormats": []}
    with pytest.raises(errors.SpecError):
        planner.Planner().decide(seams.World(wrong), observed.Observed(), now=0.0)


def test_a_runtime_is_read_once_for_each_version_of_it(service, caplog, monkeypatch):
    reads = []
    parse = planner.load.parse
    monkeypatch.setattr(planner.load, "parse", lambda body: reads.append(body["kind"]) or parse(body))
    broken = stored({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime",
                     "metadata": {"name": "old", "namespace": "default"}, "spec": {"unknown": 1}})  # fmt: skip
    held = planner.Planner()
    for version in ("3", "3", "4", "3"):
        broken["metadata"]["resourceVersion"] = version
        held.decide(seams.World(stored(service()), namespaced=(broken,)), observed.Observed(), now=0.0)
    assert reads.count("ServingRuntime") == 2
    assert caplog.text.count("old is left out") == 2
    del broken["metadata"]["resourceVersion"]
    for _ in range(2):  # not stored: nothing tells it from another of its name
        held.decide(seams.World(stored(service()), namespaced=(broken,)), observed.Observed(), now=0.0)
    assert reads.count("ServingRuntime") == 4


def test_what_is_remembered_of_runtimes_is_bounded(service):
    read = planner.Reader(most=2)
    body = stored({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime",
                   "metadata": {"name": "old", "namespace": "default"}, "spec": {"unknown": 1}})  # fmt: skip
    for version in range(5):
        body["metadata"]["resourceVersion"] = str(version)
        assert read.understood((body,), planner.runtime.ServingRuntime) == ()
    assert len(read._known) == 2
