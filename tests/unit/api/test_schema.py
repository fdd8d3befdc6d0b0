from __future__ import annotations

import jsonschema
import pytest

from mlship.api import kinds, runtime, schema


def test_a_crd_schema_is_structural_and_takes_our_own_objects() -> None:
    made = schema.crd_schema(kinds.KINDS["ClusterServingRuntime"])
    assert "$defs" not in str(made)
    assert "$ref" not in str(made)
    assert made["properties"]["spec"]["required"] == ["containers"]
    for one in runtime.builtin():
        jsonschema.validate(one.model_dump(by_alias=True, exclude_none=True, mode="json"), made)


def test_a_crd_schema_refuses_what_we_refuse() -> None:
    made = schema.crd_schema(kinds.KINDS["InferenceGraph"])
    router = made["properties"]["spec"]["properties"]["nodes"]["additionalProperties"]["properties"]["routerType"]
    assert router["enum"] == ["Sequence", "Splitter", "Ensemble", "Switch"]
    assert router["type"] == "string"


@pytest.mark.parametrize("kind", schema.PAGES)
def test_a_page_names_every_field_of_the_spec(kind: str) -> None:
    text = schema.page(kinds.KINDS[kind])
    made = schema.crd_schema(kinds.KINDS[kind])["properties"]["spec"]["properties"]
    for field in made:
        assert f"| `{field}`" in text


def test_the_page_says_what_is_not_honoured() -> None:
    text = schema.page(kinds.KINDS["InferenceService"])
    assert "| `transformer` | [Transformer](#transformer) |" in text
    assert "*Refused: transformers are not run by this version.*" in text
    assert "| `hostIPC` | boolean | Share the node's IPC. *Without effect: replicas are processes" in text
    assert "| `name` **required** | string |" in text


def test_links_lead_somewhere() -> None:
    text = schema.page(kinds.KINDS["InferenceService"])
    targets = {part.partition(")")[0] for part in text.split("](#")[1:]}
    headings = {line.removeprefix("## ").lower() for line in text.splitlines() if line.startswith("## ")}
    assert targets
    assert targets <= headings


def test_a_kind_without_a_class_has_no_page() -> None:
    with pytest.raises(ValueError, match="no class"):
        schema.page(kinds.KINDS["Secret"])
