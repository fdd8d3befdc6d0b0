"""Nothing a user can write may be without effect in silence: every field is honoured, refused or noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import pytest

from mlship.api import component, container, honour_tables, runtime, scaledobject, service


def fields(kind: type[pydantic.BaseModel]) -> set[str]:
    return set(kind.model_fields)


BODY: tuple[Mapping[str, Any], ...] = (honour_tables.CONTAINER_REFUSED, honour_tables.CONTAINER_NOTICED)
COMPONENT: tuple[Mapping[str, Any], ...] = (honour_tables.COMPONENT_REFUSED, honour_tables.COMPONENT_NOTICED)
POD: tuple[Mapping[str, Any], ...] = (honour_tables.POD_REFUSED, honour_tables.POD_NOTICED)
BLOCKS = {"model", *service.FRAMEWORKS}


@pytest.mark.parametrize(
    ("wanted", "tables", "honoured"),
    [
        (fields(component.Component), COMPONENT, honour_tables.COMPONENT_HONOURED),
        (
            fields(service.Predictor) - fields(component.Component) - BLOCKS,
            POD,
            honour_tables.POD_HONOURED,
        ),
        (fields(container.Container), BODY, honour_tables.CONTAINER_HONOURED),
        (
            fields(service.ModelSpec) - fields(container.ContainerFields),
            (honour_tables.BLOCK_REFUSED,),
            honour_tables.BLOCK_HONOURED - {"image"},
        ),
        (fields(runtime.RuntimeSpec), (honour_tables.RUNTIME_NOTICED,), honour_tables.RUNTIME_HONOURED),
    ],
    ids=["component", "pod", "container", "model", "runtime"],
)
def test_every_field_is_in_exactly_one_table(
    wanted: set[str], tables: tuple[Mapping[str, Any], ...], honoured: frozenset[str]
) -> None:
    known = [name for table in tables for name in table] + [name for name in honoured]
    assert sorted(known) == sorted(set(known))
    assert set(known) - wanted <= {"readiness_probe", "startup_probe"}
    assert wanted <= set(known)


def test_annotations_are_in_one_table() -> None:
    assert not honour_tables.HONOURED_ANNOTATIONS & honour_tables.ANNOTATIONS.keys()


@pytest.mark.parametrize("name", sorted(honour_tables.SCALED_HONOURED))
def test_every_field_of_a_scaled_object_is_in_exactly_one_table(name: str) -> None:
    known = [
        *honour_tables.SCALED_HONOURED[name],
        *honour_tables.SCALED_REFUSED.get(name, {}),
        *honour_tables.SCALED_NOTICED.get(name, {}),
    ]
    assert sorted(known) == sorted(fields(getattr(scaledobject, name)))
