from __future__ import annotations

from typing import Any

import pytest

from mlship.api import meta


def found(service: bool = True, **metadata: Any) -> list[str]:
    made = meta.ObjectMeta.model_validate({"name": "iris", **metadata})
    return [problem.field for problem in meta.check_meta(made, service=service)]


@pytest.mark.parametrize("name", ["a", "iris-2", "a" * 63])
def test_good_service_names(name: str) -> None:
    assert found(name=name) == []


@pytest.mark.parametrize("name", ["", "Iris", "2iris", "iris-", "a.b", "a_b", "a" * 64, "iris\n"])
def test_bad_service_names(name: str) -> None:
    assert found(name=name) == ["metadata.name"]


def test_other_kinds_may_have_dots_and_digits() -> None:
    assert found(service=False, name="4.b") == []
    assert found(service=False, name="a..b") == ["metadata.name"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("My_Model.v2", "my-model-v2"), ("2fast", "m-2fast"), ("---", "m"), ("Ä" * 3, "m"), ("x" * 80, "x" * 63)],
)
def test_a_suggested_name_is_valid(wrong: str, right: str) -> None:
    assert meta.suggest_name(wrong) == right
    assert meta.SERVICE_NAME.fullmatch(right)


def test_labels_and_annotations() -> None:
    assert found(labels={"app.kubernetes.io/name": "a.b_c"}, annotations={"x/y": "any thing"}) == []
    assert found(labels={"a": "b c"}) == ["metadata.labels.a"]
    assert found(annotations={"a/b/c": "x"}) == ['metadata.annotations["a/b/c"]']
    assert found(labels={"": "x"}) == ['metadata.labels[""]']


def test_namespace_and_generated_names() -> None:
    assert found(namespace="Prod", generateName="x-") == ["metadata.namespace", "metadata.generateName"]


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    old = [
        meta.Condition("Ready", meta.Truth.FALSE, "A", since="t1"),
        meta.Condition("Up", meta.Truth.TRUE, since="t1"),
    ]
    new = [meta.Condition("Ready", meta.Truth.FALSE, "B"), meta.Condition("Up", meta.Truth.UNKNOWN)]
    merged = meta.merge_conditions(old, new, now="t2")
    assert [(one.type, one.reason, one.since) for one in merged] == [("Ready", "B", "t1"), ("Up", "", "t2")]


def test_conditions_go_to_the_wire_and_back() -> None:
    condition = meta.Condition("Ready", meta.Truth.FALSE, "NoModel", "there is none", "2026-01-01T00:00:00Z", "Info")
    assert meta.read_conditions({"conditions": [condition.as_dict()]}) == (condition,)
    assert meta.Condition("Ready", meta.Truth.TRUE).as_dict() == {"type": "Ready", "status": "True"}


@pytest.mark.parametrize("status", [None, {}, {"conditions": "x"}, {"conditions": [{"type": "a", "status": "maybe"}]}])
def test_conditions_that_make_no_sense_are_dropped(status: dict[str, Any] | None) -> None:
    assert meta.read_conditions(status) == ()
