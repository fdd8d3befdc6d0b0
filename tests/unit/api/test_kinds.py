from __future__ import annotations

import pytest

from mlship.api import kinds


@pytest.mark.parametrize(
    "word", ["isvc", "inferenceservice", "InferenceServices", "inferenceservices.serving.kserve.io"]
)
def test_names_people_use(word: str) -> None:
    assert kinds.named(word) is kinds.KINDS["InferenceService"]


def test_an_unknown_word_is_nothing() -> None:
    assert kinds.named("thing") is None


def test_find_looks_at_the_group() -> None:
    assert kinds.find("serving.kserve.io/v1beta1", "InferenceService") is kinds.KINDS["InferenceService"]
    assert kinds.find("v1", "Secret") is kinds.KINDS["Secret"]
    assert kinds.find("example.com/v1", "InferenceService") is None


@pytest.mark.parametrize(
    ("api_version", "kind", "hint"),
    [
        ("serving.kserve.io/v1beta1", "InferenceServise", "did you mean InferenceService?"),
        ("serving.kserve.io/v1alpha2", "InferenceService", "write serving.kserve.io/v1beta1"),
        ("serving.kubeflow.org/v1beta1", "InferenceService", "write serving.kserve.io/v1beta1"),
        ("v1", "Zebra", "mlship serves InferenceService, ServingRuntime, ClusterServingRuntime or ScaledObject"),
    ],
)
def test_what_is_not_known_gets_the_nearest(api_version: str, kind: str, hint: str) -> None:
    (problem,) = kinds.unknown(api_version, kind)
    assert problem.hint == hint


def test_every_kind_that_is_not_served_says_why_and_what_instead() -> None:
    for entry in kinds.KINDS.values():
        if entry.stance is not kinds.Stance.SERVED:
            assert entry.reason, entry.kind
            assert entry.instead, entry.kind


def test_names_are_unique() -> None:
    names = [name for one in kinds.KINDS.values() for name in {one.plural + one.group, *one.short_names}]
    assert len(names) == len(set(names))
    assert not kinds.KINDS["ClusterServingRuntime"].namespaced
