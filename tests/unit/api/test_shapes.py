from __future__ import annotations

from typing import Annotated, Any

import pydantic
import pytest

from mlship.api import fields, podspec, shapes


class Pod(fields.Spec):
    affinity: Annotated[dict[str, Any], shapes.Shape("Affinity")] | None = None
    tolerations: tuple[Annotated[dict[str, Any], shapes.Shape("Toleration")], ...] | None = None
    volumes: tuple[Annotated[dict[str, Any], shapes.Shape("Volume")], ...] | None = None


def test_what_fits_is_kept_as_it_was_written() -> None:
    raw = {"tolerations": [{"key": "a", "tolerationSeconds": 3}], "volumes": [{"name": "v", "emptyDir": {}}]}
    assert Pod.model_validate(raw).tolerations == ({"key": "a", "tolerationSeconds": 3},)


@pytest.mark.parametrize(
    ("raw", "place", "kind"),
    [
        ({"tolerations": [{"efect": "x"}]}, ("tolerations", 0, "efect"), "extra_forbidden"),
        ({"tolerations": [{"tolerationSeconds": "3"}]}, ("tolerations", 0, "tolerationSeconds"), "int_type"),
        ({"volumes": [{"emptyDir": {}}]}, ("volumes", 0, "name"), "missing"),
        ({"volumes": {}}, ("volumes",), "tuple_type"),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            ("affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution", 0, "topologyKey"),
            "missing",
        ),
    ],
)
def test_what_does_not_fit_is_found_where_it_stands(raw: dict[str, Any], place: tuple[Any, ...], kind: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Pod.model_validate(raw)
    assert [(item["loc"], item["type"]) for item in caught.value.errors()] == [(place, kind)]


def test_members() -> None:
    assert shapes.members("KeyToPath") == {"key": ("str", True), "mode": ("int", False), "path": ("str", True)}


@pytest.mark.parametrize("name", sorted(podspec.SHAPES))
def test_every_shape_compiles(name: str) -> None:
    adapter = pydantic.TypeAdapter(Annotated[dict[str, Any], shapes.Shape(name)])
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python({"surely not a field": 1})
