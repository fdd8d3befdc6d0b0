from __future__ import annotations

import pydantic
import pytest

from mlship.api import component


def test_storage_uris_are_at_least_one_with_an_absolute_mount() -> None:
    with pytest.raises(pydantic.ValidationError):
        component.Component.model_validate({"storageUris": []})
    with pytest.raises(pydantic.ValidationError):
        component.Component.model_validate({"storageUris": [{"uri": "/a", "mountPath": "b"}]})


def test_auto_scaling_as_keda_has_it() -> None:
    target = {"type": "Value", "value": "100"}
    external = {"metric": {"backend": "prometheus", "query": "up"}, "target": target}
    raw = {"autoScaling": {"metrics": [{"type": "External", "external": external}]}}
    found = component.Component.model_validate(raw)
    assert found.auto_scaling is not None
    assert found.model_dump(by_alias=True, exclude_none=True, mode="json") == raw
