"""Objects as people write them, and all that the scaler is told: ``NAME.in.yaml`` -> ``NAME.out.yaml``."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mlship.api import honour, load, runtime, scaledobject
from mlship.api import service as services
from mlship.plan import autoscale

CASES = sorted(pathlib.Path(__file__).parent.glob("*.in.yaml"))


def plain(value: Any) -> Any:
    """A record as YAML shows it."""
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    return [plain(one) for one in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_translated(path: pathlib.Path, golden: Callable[[pathlib.Path, str], None]) -> None:
    objects = [load.parse(raw) for raw in yaml.safe_load_all(path.read_text())]
    assert not [one for found in objects for one in honour.refusals(found, cluster=runtime.builtin())]
    service = next(one for one in objects if isinstance(one, services.InferenceService))
    scaled = next((one for one in objects if isinstance(one, scaledobject.ScaledObject)), None)
    found = autoscale.scaling_of(service, services.effective(service), scaled)
    golden(path.with_name(path.name.replace(".in.yaml", ".out.yaml")), yaml.safe_dump(plain(found), sort_keys=False))
