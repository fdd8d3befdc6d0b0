from __future__ import annotations

from typing import Any

import pydantic
import pytest

from mlship.api import fields


class Thing(fields.Spec):
    some_name: fields.Str | None = None
    count: fields.Int32 | None = None
    on: fields.Bool | None = None
    port: fields.IntOrStr | None = None
    cpu: fields.Quantity | None = None


@pytest.mark.parametrize(
    "raw",
    [{"someName": "a"}, {"count": 3}, {"on": True}, {"port": 80}, {"port": "http"}, {"cpu": 1}, {"cpu": "500m"}],
)
def test_right_types(raw: dict[str, Any]) -> None:
    assert Thing.model_validate(raw).model_dump(by_alias=True, exclude_none=True) == raw


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"someName": 1}, "string_type"),
        ({"some_name": "a"}, "extra_forbidden"),
        ({"count": "3"}, "int_type"),
        ({"count": True}, "int_type"),
        ({"count": 2**31}, "less_than_equal"),
        ({"on": "true"}, "bool_type"),
        ({"on": 1}, "bool_type"),
        ({"port": True}, "int_or_string"),
        ({"port": 1.5}, "int_or_string"),
        ({"cpu": 0.1}, "quantity_float"),
        ({"cpu": "1 Gi"}, "quantity_form"),
        ({"cpu": "1Gi\n"}, "quantity_form"),
    ],
)
def test_nothing_is_coerced(raw: dict[str, Any], kind: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Thing.model_validate(raw)
    assert [item["type"] for item in caught.value.errors()] == [kind]


def test_objects_do_not_change() -> None:
    with pytest.raises(pydantic.ValidationError):
        Thing().count = 3  # type: ignore[misc]
