from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import kinds, service, validate

Make = Callable[..., Any]
ISVC: dict[str, Any] = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}


def said(raw: dict[str, Any]) -> list[str]:
    found, problems = validate.typed(raw)
    assert (found is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_a_good_object_is_typed(raw_service: Make) -> None:
    found, problems = validate.typed(raw_service())
    assert isinstance(found, service.InferenceService)
    assert problems == ()


def test_nulls_are_absent_as_in_kubernetes(raw_service: Make) -> None:
    raw = raw_service(runtime=None, env=[{"name": "A", "value": None}])
    found, _ = validate.typed({**raw, "status": None})
    assert isinstance(found, service.InferenceService)
    assert found.spec.predictor.model is not None
    assert found.spec.predictor.model.runtime is None


def test_every_problem_at_once(raw_service: Make) -> None:
    raw = raw_service(modelFormt={}, timeout=3)
    raw["spec"]["predictor"]["minReplica"] = 2
    raw["metadata"]["lables"] = {}
    assert said(raw) == [
        "metadata.lables: unknown field; did you mean labels?",
        "spec.predictor.model.modelFormt: unknown field; did you mean modelFormat?",
        "spec.predictor.model.timeout: unknown field; timeout belongs to spec.predictor",
        "spec.predictor.minReplica: unknown field; did you mean minReplicas?",
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"runtime": 1}, 'runtime: expected a string, got the number 1; write "1" in quotes'),
        ({"runtime": True}, 'runtime: expected a string, got true; write "true" in quotes'),
        ({"runtime": {"a": 1}}, "runtime: expected a string, got a map of fields"),
        ({"args": "--a"}, "args: expected a list, got a string"),
        ({"args": [1]}, "args[0]: expected a string, got a number; put it in quotes"),
        ({"modelFormat": "sklearn"}, 'modelFormat: expected a map of fields, got the string "sklearn"'),
        ({"modelFormat": {}}, "modelFormat.name: required field is missing"),
        ({"modelFormat": {"nam": "x"}}, "modelFormat.name: required field is missing; nam is written name"),
        ({"tty": "true"}, 'tty: expected true or false, got the string "true"; write it without quotes'),
        ({"env": [{"name": "A", "value": 7}]}, "env[0].value: expected a string, got a number; put it in quotes"),
        ({"env": [None]}, "env[0]: expected a map of fields, got nothing"),
        (
            {"resources": {"limits": {"cpu": 0.5}}},
            'resources.limits.cpu: expected a whole number or a string, got the number 0.5; write "0.5" or 500m',
        ),
        (
            {"resources": {"limits": {"memory": "512mb"}}},
            "resources.limits.memory: 512mb is not a quantity; did you mean 512M?",
        ),
        (
            {"resources": {"limits": {"memory": "2 gi"}}},
            "resources.limits.memory: 2 gi is not a quantity; did you mean 2Gi?",
        ),
        (
            {"resources": {"limits": {"memory": "lots"}}},
            'resources.limits.memory: lots is not a quantity; write for example 500m, 2 or "4Gi"',
        ),
        ({"securityContext": {"runAsUsr": 1}}, "securityContext.runAsUsr: unknown field; did you mean runAsUser?"),
    ],
)
def test_types_are_strict_and_the_fix_is_said(model: dict[str, Any], expected: str, raw_service: Make) -> None:
    assert f"spec.predictor.model.{expected}" in said(raw_service(**model))


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        ({"scaleMetric": "qps"}, "qps is not one of cpu, memory, concurrency or rps; did you mean rps?"),
        ({"scaleMetric": "memroy"}, "memroy is not one of cpu, memory, concurrency or rps; did you mean memory?"),
        ({"name": "Bad_Name"}, "Bad_Name does not match ^[a-z]([-a-z0-9]*[a-z0-9])?$"),
        ({"minReplicas": 2**40}, "input should be less than or equal to 2147483647"),
    ],
)
def test_values(predictor: dict[str, Any], expected: str, raw_service: Make) -> None:
    (one,) = said(raw_service(predictor=predictor))
    assert one.endswith(expected)


def test_fields_that_kserve_removed_say_what_replaced_them(raw_service: Make) -> None:
    raw = raw_service()
    raw["spec"] |= {"transformer": {"custom": {}}, "explainer": {"alibi": {}}}
    assert [one.partition("; ")[2] for one in said(raw)] == [
        "write what is below custom.container as the first of containers",
        "KServe removed it; write the explainer as containers",
    ]


def test_a_wrong_indentation_is_told_by_where_the_field_belongs() -> None:
    raw = {**ISVC, "metadata": {"name": "a"}, "predictor": {}, "spec": {}}
    assert "predictor: unknown field; predictor belongs to spec" in said(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, "apiVersion: required field is missing"),
        ({"apiversion": "v1", "kind": "Secret"}, "apiversion is written apiVersion"),
        ({"apiVersion": 1, "kind": "Secret"}, "apiVersion: expected a string, got the number 1"),
        ({"apiVersion": "v1", "kind": ["Secret"]}, "kind: expected a string, got a list"),
    ],
)
def test_the_head_of_a_document(raw: dict[str, Any], expected: str) -> None:
    assert expected in said(raw)[0]


def test_a_kind_without_a_class_is_no_problem() -> None:
    assert validate.typed({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}) == (None, ())


def test_the_rest_of_a_broken_object_can_still_be_typed(raw_service: Make) -> None:
    raw = raw_service(modelFormt={}, env=[{"value": "x"}], args=["a", 1])
    _, wrong = validate.typed(raw)
    rest = validate.partial(raw, wrong)
    assert isinstance(rest, service.InferenceService)
    assert rest.spec.predictor.model is not None
    assert (rest.spec.predictor.model.env, rest.spec.predictor.model.args) == (None, None)
    assert raw == raw_service(modelFormt={}, env=[{"value": "x"}], args=["a", 1])


def test_nothing_remains_of_an_object_without_a_name() -> None:
    raw = {**ISVC, "spec": {"predictor": {}}}
    _, wrong = validate.typed(raw)
    assert validate.partial(raw, wrong) is None


def test_members_follow_lists_and_maps() -> None:
    model = kinds.KINDS["InferenceGraph"].model
    assert model is not None
    root = validate.schema(model)
    assert "routerType" in validate.members(
        root,
        (
            "spec",
            "nodes",
            "any",
        ),
    )
    assert "serviceName" in validate.members(root, ("spec", "nodes", "any", "steps", 3))
    assert validate.members(root, ("spec", "nodes")) == frozenset()
    assert validate.members(root, ("no", "such", "path")) == frozenset()
