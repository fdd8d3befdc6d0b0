"""What a write does to an object, without a store around it."""

from __future__ import annotations

import copy

import pytest

from mlship.control import objects, store

KEY = store.Key("things.test", "default", "t")
RAW = {
    "apiVersion": "test/v1",
    "kind": "Thing",
    "metadata": {"name": "t", "labels": {"a": "b"}, "managedFields": [1], "uid": "forged", "generation": 99},
    "spec": {"z": 1, "a": {"deep": [1, 2]}},
    "extra": {"kept": True},
    "status": {"forged": True},
}


def made(**metadata: object) -> store.Object:
    raw = copy.deepcopy(RAW)
    raw["metadata"] |= metadata
    return objects.created(raw, key=KEY, uid="u", now=10.0) | {"status": {"x": 1}}


def test_the_server_owns_its_metadata():
    body = objects.created(RAW, key=KEY, uid="u", now=10.0)
    assert body["metadata"] == {
        "name": "t",
        "namespace": "default",
        "uid": "u",
        "creationTimestamp": "1970-01-01T00:00:10Z",
        "generation": 1,
        "labels": {"a": "b"},
    }
    assert "status" not in body
    assert list(body["spec"]) == ["z", "a"]


def test_nothing_is_shared_with_what_was_given():
    raw = copy.deepcopy(RAW)
    body = objects.created(raw, key=KEY, uid="u", now=10.0)
    raw["spec"]["a"]["deep"].append(3)
    raw["metadata"]["labels"]["new"] = "x"
    assert body["spec"]["a"]["deep"] == [1, 2]
    assert body["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        ({"spec": {"z": 2}}, 2),
        ({"extra": {}}, 2),
        ({"metadata": {"name": "t", "annotations": {"n": "v"}}}, 1),
        ({"metadata": {"name": "t", "annotations": {"autoscaling.knative.dev/window": "6s"}}}, 2),
        ({"status": {"other": True}}, 1),
        ({}, 1),
    ],
)
def test_what_the_generation_counts(change, generation):
    assert objects.replaced(made(), {**RAW, **change})["metadata"]["generation"] == generation


def test_a_replacement_keeps_status_and_identity():
    body = objects.replaced(made(), RAW)
    assert body["status"] == {"x": 1}
    assert body["metadata"]["uid"] == "u"


def test_a_status_write_takes_nothing_else():
    body = objects.with_status(made(), {"spec": {}, "metadata": {}, "status": {"y": 2}})
    assert body == made() | {"status": {"y": 2}}
    assert "status" not in objects.with_status(made(), {})


def test_marking_twice_keeps_the_first_time():
    once = objects.marked(made(), now=20.0)
    assert objects.marked(once, now=30.0) == once
    assert once["metadata"]["deletionTimestamp"] == "1970-01-01T00:00:20Z"


def test_times_go_there_and_back():
    assert objects.seconds(objects.timestamp(1_700_000_000.0)) == 1_700_000_000.0


def test_which_events_ask_for_more():
    old = made()

    def asks(
        new: store.Object, change: store.Change = store.Change.MODIFIED, previous: store.Object | None = old
    ) -> bool:
        return objects.asks_for_more(store.Event(change, 2, KEY, new, previous))

    bumped = copy.deepcopy(old)
    bumped["metadata"]["resourceVersion"] = "9"
    assert not asks(bumped | {"status": {"x": 2}})
    assert not asks({name: value for name, value in bumped.items() if name != "status"} | {"status": None})
    assert asks(bumped | {"spec": {}})
    assert asks(objects.marked(old, now=1.0))
    assert asks(old, store.Change.ADDED, None)
    assert asks(old, store.Change.DELETED)
