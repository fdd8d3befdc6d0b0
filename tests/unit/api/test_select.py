from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mlship import errors
from mlship.api import runtime, select, service

Make = Callable[..., Any]


def formats(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "autoSelect": True, **more} for name in names]


@pytest.fixture
def chosen(a_service: Make) -> Callable[..., str]:
    def choose(namespaced: Sequence[Any] = (), cluster: Sequence[Any] = (), **model: Any) -> str:
        found = service.effective(a_service(**model))
        return select.select(found, namespaced=namespaced, cluster=cluster).runtime.name

    return choose


@pytest.fixture
def refused(chosen: Callable[..., str]) -> Callable[..., errors.SpecError]:
    def refuse(*args: Any, **more: Any) -> errors.SpecError:
        with pytest.raises(errors.SpecError) as caught:
            chosen(*args, **more)
        return caught.value

    return refuse


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "lightgbm", "catboost", "onnx", "python"])
def test_our_own_serve_their_formats(name: str, chosen: Make) -> None:
    assert chosen(cluster=runtime.builtin(), modelFormat={"name": name}) == f"mlship-{name}"
    for protocol in ("v1", "v2", "grpc-v2"):
        assert chosen(cluster=runtime.builtin(), modelFormat={"name": name}, protocolVersion=protocol)


def test_namespaced_before_cluster_whatever_the_priority(chosen: Make, a_runtime: Make) -> None:
    own = a_runtime("own", supportedModelFormats=formats("sklearn", priority=1))
    wide = a_runtime("wide", kind="ClusterServingRuntime", supportedModelFormats=formats("sklearn", priority=9))
    assert chosen([own], [wide]) == "own"


def test_higher_priority_first_and_none_is_lowest(chosen: Make, a_runtime: Make) -> None:
    made = [
        a_runtime("a-none", supportedModelFormats=formats("sklearn")),
        a_runtime("b-one", supportedModelFormats=formats("sklearn", priority=1)),
        a_runtime("c-two", supportedModelFormats=formats("sklearn", priority=2)),
    ]
    assert chosen(made) == "c-two"
    assert chosen(made[:2]) == "b-one"


def test_then_the_older_protocol_then_the_name(chosen: Make, a_runtime: Make) -> None:
    first = a_runtime("a", protocolVersions=["v2"])
    second = a_runtime("b", protocolVersions=["v2", "v1"])
    assert chosen([first, second], protocolVersion="v2") == "b"
    assert chosen([second, a_runtime("a2", protocolVersions=["v1", "v2"])], protocolVersion="v2") == "a2"


@pytest.mark.parametrize(
    ("spec", "model", "why"),
    [
        ({"disabled": True}, {}, "it is disabled"),
        ({"multiModel": True}, {}, "it is for multi-model serving"),
        ({"supportedModelFormats": [{"name": "sklearn"}]}, {}, "no autoSelect"),
        ({"supportedModelFormats": formats("Sklearn")}, {}, "it serves Sklearn"),
        ({"supportedModelFormats": []}, {}, "it names no format"),
        ({}, {"modelFormat": {"name": "sklearn", "version": "1.0"}}, "it serves version 1, not 1.0"),
        (
            {"supportedModelFormats": formats("sklearn")},
            {"modelFormat": {"name": "sklearn", "version": "1"}},
            "no version",
        ),
        ({}, {"protocolVersion": "grpc-v2"}, "it speaks v1 or v2, not grpc-v2"),
        ({"protocolVersions": None}, {"protocolVersion": "v2"}, "it speaks v1, not v2"),
        ({"containers": [{"name": "a", "image": "x"}]}, {}, "an image but no command"),
    ],
)
def test_why_a_runtime_was_rejected(
    spec: dict[str, Any], model: dict[str, Any], why: str, refused: Make, a_runtime: Make
) -> None:
    error = refused([a_runtime("mine", **spec)], **model)
    assert "mine: " in error.message
    assert why in error.message


def test_a_named_runtime_needs_no_auto_select(chosen: Make, a_runtime: Make) -> None:
    mine = a_runtime("mine", supportedModelFormats=[{"name": "sklearn"}])
    assert chosen([mine], runtime.builtin(), runtime="mine") == "mine"


def test_a_named_runtime_is_looked_for_in_the_namespace_first(chosen: Make, a_runtime: Make, a_service: Make) -> None:
    found = select.select(
        service.effective(a_service(runtime="same")),
        namespaced=[a_runtime("same")],
        cluster=[a_runtime("same", kind="ClusterServingRuntime")],
    )
    assert isinstance(found.runtime, runtime.ServingRuntime)


def test_a_named_runtime_that_does_not_fit_says_why(refused: Make, a_runtime: Make) -> None:
    error = refused([a_runtime("mine")], runtime="mine", modelFormat={"name": "onnx"})
    assert "mine does not serve onnx over v1: it serves sklearn" in error.message


@pytest.mark.parametrize(
    ("name", "hint"), [("mlship-sklaern", "Did you mean mlship-sklearn?"), ("zzz", "Leave runtime out")]
)
def test_a_runtime_that_is_not_there(name: str, hint: str, refused: Make) -> None:
    error = refused(cluster=runtime.builtin(), runtime=name)
    assert name in error.message
    assert error.hint.startswith(hint)


def test_kserves_built_in_names_work(chosen: Make, a_service: Make) -> None:
    assert chosen(cluster=runtime.builtin(), runtime="kserve-sklearnserver") == "mlship-sklearn"
    found = service.effective(a_service(runtime="kserve-mlserver", modelFormat={"name": "lightgbm"}))
    selection = select.select(found, namespaced=(), cluster=runtime.builtin())
    assert selection.runtime.name == "mlship-lightgbm"
    assert "stands for KServe's kserve-mlserver" in selection.why


def test_a_users_runtime_of_such_a_name_goes_first(chosen: Make, a_runtime: Make) -> None:
    assert chosen([a_runtime("kserve-sklearnserver")], runtime.builtin(), runtime="kserve-sklearnserver") == (
        "kserve-sklearnserver"
    )


def test_a_built_in_without_a_counterpart_says_so(refused: Make) -> None:
    error = refused(cluster=runtime.builtin(), runtime="kserve-torchserve", modelFormat={"name": "pytorch"})
    assert "no counterpart" in error.message
    assert "sklearn" in error.hint


def test_the_nearest_format_is_named(refused: Make) -> None:
    error = refused(cluster=runtime.builtin(), modelFormat={"name": "scikit-learn"})
    assert "No runtime serves scikit-learn over v1" in error.message
    assert refused(cluster=runtime.builtin(), modelFormat={"name": "SKLearn"}).hint == "Did you mean sklearn?"


def test_the_reason_of_a_choice(a_service: Make, a_runtime: Make) -> None:
    found = select.select(
        service.effective(a_service()), namespaced=[a_runtime("one"), a_runtime("two")], cluster=runtime.builtin()
    )
    assert found.why == "one (namespace) serves sklearn over v1, before two"
