from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import load, service

Make = Callable[..., Any]


def test_defaults_of_a_bare_service(a_service: Make) -> None:
    found = service.effective(a_service())
    assert (found.namespace, found.name) == ("default", "iris")
    assert found.implementation is service.Implementation.MODEL
    assert (found.model_format, found.format_version, found.protocol_version) == ("sklearn", "", "v1")
    assert (found.min_replicas, found.max_replicas, found.timeout) == (1, 1, 60)
    assert (found.storage_uri, found.runtime, found.args, dict(found.env)) == ("/models/iris", "", (), {})
    assert found.path == ("spec", "predictor", "model")
    assert not found.stopped


def test_the_spec_is_never_rewritten(raw_service: Make) -> None:
    raw = raw_service()
    found = load.parse(raw)
    assert isinstance(found, service.InferenceService)
    service.effective(found)
    assert found.model_dump(by_alias=True, exclude_none=True, exclude_unset=True) == raw == raw_service()


@pytest.mark.parametrize("block", service.FRAMEWORKS)
def test_legacy_blocks_name_their_format(block: str, raw_predictor: Make) -> None:
    found = load.parse(raw_predictor({block: {"storageUri": "/m"}}))
    assert isinstance(found, service.InferenceService)
    resolved = service.effective(found)
    assert resolved.model_format == block
    assert resolved.protocol_version == ("v2" if block in ("triton", "onnx", "huggingface") else "v1")
    assert resolved.path == ("spec", "predictor", block)


@pytest.mark.parametrize(
    ("model", "protocol"),
    [
        ({"modelFormat": {"name": "triton"}}, "v2"),
        ({"modelFormat": {"name": "onnx"}}, "v1"),
        ({"runtime": "kserve-mlserver"}, "v2"),
        ({"runtime": "kserve-mlserver", "protocolVersion": "v1"}, "v1"),
        ({"protocolVersion": "grpc-v2"}, "grpc-v2"),
    ],
)
def test_the_default_protocol(model: dict[str, Any], protocol: str, a_service: Make) -> None:
    assert service.effective(a_service(**model)).protocol_version == protocol


@pytest.mark.parametrize(
    ("written", "replicas"),
    [
        ({}, (1, 1)),
        ({"minReplicas": 3}, (3, 3)),
        ({"maxReplicas": 4}, (1, 4)),
        ({"minReplicas": 2, "maxReplicas": 0}, (2, 2)),
    ],
)
def test_replicas(written: dict[str, int], replicas: tuple[int, int], a_service: Make) -> None:
    found = service.effective(a_service(predictor=written))
    assert (found.min_replicas, found.max_replicas) == replicas


def test_a_stopped_service_wants_no_replica(a_service: Make) -> None:
    found = service.effective(a_service(metadata={"annotations": {service.STOP: "True"}}, predictor={"minReplicas": 2}))
    assert (found.stopped, found.min_replicas, found.max_replicas) == (True, 0, 0)


def test_the_container_called_kserve_container_serves(raw_predictor: Make) -> None:
    env = [{"name": "STORAGE_URI", "value": "/m"}, {"name": "X", "valueFrom": {"secretKeyRef": {"key": "k"}}}]
    containers = [
        {"name": "helper", "command": ["no"]},
        {"name": "kserve-container", "command": ["serve"], "args": ["-v"], "env": env},
    ]
    found = load.parse(raw_predictor({"containers": containers, "labels": {"a": "b"}}))
    assert isinstance(found, service.InferenceService)
    resolved = service.effective(found)
    assert resolved.implementation is service.Implementation.CONTAINER
    assert (resolved.command, resolved.args, resolved.storage_uri) == (("serve",), ("-v",), "/m")
    assert dict(resolved.env) == {"STORAGE_URI": "/m"}
    assert resolved.path == ("spec", "predictor", "containers", 1)
    assert (resolved.model_format, dict(resolved.labels)) == ("", {"a": "b"})


def test_without_that_name_the_first_container_serves(raw_predictor: Make) -> None:
    found = load.parse(raw_predictor({"containers": [{"name": "a", "command": ["a"]}, {"name": "b"}]}))
    assert isinstance(found, service.InferenceService)
    assert service.effective(found).command == ("a",)
