from __future__ import annotations

import pytest

from mlship import errors
from mlship.api import problems


def test_a_problem_reads_like_a_compilers() -> None:
    found = problems.Problem(
        ("spec", "model", "modelFormt"), "unknown field", "did you mean modelFormat?", file="iris.yaml", line=7
    )
    assert str(found) == "iris.yaml:7: spec.model.modelFormt: unknown field; did you mean modelFormat?"


def test_a_problem_without_place_or_hint_has_no_empty_parts() -> None:
    assert str(problems.refuse(("spec",), "is empty")) == "spec: is empty"
    assert str(problems.refuse((), "is empty")) == "is empty"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("spec", "env", 0, "name"), "spec.env[0].name"),
        (("metadata", "annotations", "a.b/c"), 'metadata.annotations["a.b/c"]'),
        (("x" * 200 + " ",), '["' + "x" * 77 + '..."]'),
        ((), ""),
    ],
)
def test_paths(path: problems.Path, shown: str) -> None:
    assert problems.show_path(path) == shown


def test_a_notice_is_not_a_refusal() -> None:
    assert problems.notice((), "a").severity is problems.Severity.NOTICE
    assert problems.refuse((), "a").severity is problems.Severity.REFUSE


@pytest.mark.parametrize(
    ("wrong", "close"),
    [
        ("modelFormt", "modelFormat"),
        ("MODEL_FORMAT", "modelFormat"),
        ("storage-uri", "storageUri"),
        ("quite different", ""),
        ("", ""),
    ],
)
def test_nearest(wrong: str, close: str) -> None:
    assert problems.nearest(wrong, ["modelFormat", "storageUri"]) == close


def test_an_invalid_object_is_a_spec_error_with_all_its_problems() -> None:
    found = [problems.refuse((f"f{index}",), "is empty") for index in range(25)]
    error = problems.InvalidObject(found)
    assert isinstance(error, errors.SpecError)
    assert error.problems == tuple(found)
    assert str(error).splitlines()[0] == "f0: is empty"
    assert str(error).endswith("and 5 more")


def test_one_of() -> None:
    assert problems.one_of(["a", "b", "c"]) == "a, b or c"
    assert problems.one_of(["a"]) == "a"
    assert problems.one_of([]) == ""


def test_an_error_becomes_reason_and_hint_of_one_sentence() -> None:
    assert problems.said(errors.SpecError("Not that.", hint="Use this.")) == ("Not that", "use this")
