"""A dict becomes a typed object, or a list of problems with the exact field and the nearest valid name.

Between ``load`` (text) or the control API (JSON) and ``check`` (rules across fields). Pydantic finds what is wrong;
here its findings are said in the words of the object's author.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
import pydantic_core

from mlship.api import kinds, meta, problems, redact
from mlship.api.problems import Path, Problem

MISSING = "required field is missing"
UNKNOWN = "unknown field"

_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map of fields",
    "model_type": "a map of fields",
    "model_attributes_type": "a map of fields",
    "int_or_string": "a whole number or a string",
    "quantity_float": "a whole number or a string",
    "none_required": "nothing",
}
_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list"}

# Fields of older KServe versions that published documents still use.
_RETIRED = {
    "alibi": "KServe removed it; write the explainer as containers",
    "aix": "KServe removed it; write the explainer as containers",
    "custom": "write what is below custom.container as the first of containers",
    "parallelism": "write containerConcurrency",
    "default": "this is the v1alpha2 form; write spec.predictor",
}
_NEAR_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtTpPeE])?([iI])?([bB])?\s*")
_SHALLOW = 4
_FEW = 12

JsonSchema = Mapping[str, Any]


def typed(raw: Mapping[str, Any]) -> tuple[meta.Object | None, tuple[Problem, ...]]:
    """The typed object of a document, or None and why not. Nulls count as absent, as in Kubernetes.

    A kind that is known and has no class (``Stance.FOREIGN``) gives None and no problem.
    """
    head = [*_head(raw, "apiVersion"), *_head(raw, "kind")]
    if head:
        return None, tuple(head)
    refused = kinds.unknown(raw["apiVersion"], raw["kind"])
    if refused:
        return None, tuple(refused)
    model = kinds.KINDS[raw["kind"]].model
    if model is None:
        return None, ()
    try:
        return model.model_validate(without_nulls(raw)), ()
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        return None, tuple(itertools.chain.from_iterable(_problem(model, raw, item) for item in found))


def partial(raw: Mapping[str, Any], wrong: Sequence[Problem]) -> meta.Object | None:
    """The typed object without the parts that are wrong, so that the rules across fields can be tried on the rest.

    None when what remains is no object. A wrong member of a list takes its list with it: indices must not move.
    """
    copy = without_nulls(raw)
    for problem in wrong:
        _remove(copy, _removable(problem))
    found, still = typed(copy)
    return found if not still else None


def _removable(problem: Problem) -> Path:
    path = problem.path[:-1] if problem.reason == MISSING else problem.path
    first = next((index for index, part in enumerate(path) if isinstance(part, int) and index == len(path) - 1), None)
    return path if first is None else path[:first]


def _remove(raw: Any, path: Path) -> None:
    parent = _at(raw, path[:-1])
    if path and isinstance(parent, dict):
        parent.pop(path[-1], None)


def without_nulls(raw: Any) -> Any:
    """A copy without the map entries that are null."""
    if isinstance(raw, Mapping):
        return {key: without_nulls(value) for key, value in raw.items() if value is not None}
    if isinstance(raw, list):
        return [without_nulls(value) for value in raw]
    return raw


def _head(raw: Mapping[str, Any], key: str) -> Sequence[Problem]:
    value = raw.get(key)
    if isinstance(value, str) and value:
        return ()
    example = "serving.kserve.io/v1beta1" if key == "apiVersion" else "InferenceService"
    if value is None:
        close = problems.nearest(key, [name for name in raw if isinstance(name, str)])
        hint = f"{close} is written {key}" if close else f"write for example {key}: {example}"
        return (problems.refuse((key,), MISSING, hint),)
    return (problems.refuse((key,), f"expected a string, got {_got((key,), value)}", f"write {key}: {example}"),)


def _problem(model: type[meta.Object], raw: Mapping[str, Any], item: pydantic_core.ErrorDetails) -> list[Problem]:
    path: Path = tuple(item["loc"])
    kind = item["type"]
    if kind == "extra_forbidden":
        return [_unknown_field(model, path)]
    if kind == "missing":
        return [_missing(model, raw, path)]
    context = item.get("ctx", {})
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
        return [problems.refuse(path, f"expected {expected}, got {_got(path, item['input'])}", _fix(kind, path, item))]
    if kind == "literal_error":
        return [_not_among(model, path, item["input"])]
    if kind == "quantity_form":
        shown = redact.value(path, item["input"])
        hint = "" if redact.is_secret(path) else _quantity_near(str(item["input"]))
        return [problems.refuse(path, f"{shown} is not a quantity", hint or 'write for example 500m, 2 or "4Gi"')]
    if kind == "string_pattern_mismatch":
        shown = redact.value(path, item["input"])
        return [problems.refuse(path, f"{shown} does not match {context['pattern']}")]
    return [problems.refuse(path, _plain(item["msg"]))]


def _unknown_field(model: type[meta.Object], path: Path) -> Problem:
    known = members(schema(model), path[:-1])
    wrong = str(path[-1])
    hint = problems.did_you_mean(wrong, known)
    if wrong in _RETIRED:
        hint = _RETIRED[wrong]
    if not hint and len(path) <= _SHALLOW and (elsewhere := _elsewhere(model, wrong)):
        hint = f"{wrong} belongs to {elsewhere}"
    if not hint and 0 < len(known) <= _FEW:
        hint = f"known here: {', '.join(sorted(known))}"
    return problems.refuse(path, UNKNOWN, hint)


def _elsewhere(model: type[meta.Object], wrong: str) -> str:
    """Where a field that is unknown here would be known: wrong indentation is the commonest mistake in YAML."""
    root = schema(model)
    for where in (("spec",), ("spec", "predictor"), ("spec", "predictor", "model"), ("metadata",)):
        if wrong in members(root, where):
            return problems.show_path(where)
    return ""


def _missing(model: type[meta.Object], raw: Mapping[str, Any], path: Path) -> Problem:
    written = _at(raw, path[:-1])
    names = [name for name in written if isinstance(name, str)] if isinstance(written, Mapping) else []
    known = members(schema(model), path[:-1])
    strays = [name for name in names if name not in known]
    close = problems.nearest(str(path[-1]), strays)
    hint = f"{close} is written {path[-1]}" if close else ""
    return problems.refuse(path, MISSING, hint)


def _not_among(model: type[meta.Object], path: Path, value: object) -> Problem:
    allowed = [str(name) for name in resolve(schema(model), path).get("enum", ())]
    hint = problems.did_you_mean(str(value), allowed)
    if not hint and path[-1] == "scaleMetric" and value == "qps":
        hint = "did you mean rps?"
    shown = redact.value(path, value)
    return problems.refuse(path, f"{shown} is not one of {problems.one_of(allowed)}", hint)


def _got(path: Path, value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a map of fields"
    if isinstance(value, list) or redact.is_secret(path):
        return _KINDS.get(type(value), type(value).__name__)
    if isinstance(value, bool):
        return str(value).lower()
    shown = redact.value(path, value)
    return f"the number {shown}" if isinstance(value, int | float) else f'the string "{shown}"'


def _fix(kind: str, path: Path, item: pydantic_core.ErrorDetails) -> str:
    """What to write instead. ``load`` knows the text of the document and improves on it."""
    value = item["input"]
    hidden = redact.is_secret(path)
    if kind == "quantity_float" and isinstance(value, float) and math.isfinite(value):
        milli = round(value * 1000)
        return f'write "{value}" or {milli}m' if path[-1] == "cpu" else f'write "{value}" in quotes'
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "put it in quotes" if hidden else f'write "{str(value).lower()}" in quotes'
    if kind in ("int_type", "int_or_string", "bool_type") and isinstance(value, str) and not hidden:
        return "write it without quotes" if value.strip().lstrip("-").isdigit() or value in ("true", "false") else ""
    return ""


def _quantity_near(text: str) -> str:
    """The quantity that was meant by 1 Gi, 512mb or 2gb."""
    match = _NEAR_QUANTITY.fullmatch(text)
    if match is None:
        return ""
    number, prefix, binary = match[1], match[2] or "", match[3]
    suffix = "m" if prefix == "m" and not match[4] else prefix.upper() if prefix.lower() != "k" else prefix.lower()
    if binary and prefix:
        suffix = prefix.upper() + "i"
    return f"did you mean {number}{suffix}?"


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _at(raw: Any, path: Path) -> Any:
    for part in path:
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            return None
    return raw


@functools.cache
def schema(model: type[meta.Object]) -> JsonSchema:
    """The JSON schema of a kind, made once: the map on which the nearest names are found."""
    return model.model_json_schema()


def members(root: JsonSchema, path: Path) -> frozenset[str]:
    """The names of the fields at a path; empty where the names are the author's own."""
    return frozenset(resolve(root, path).get("properties", {}))


def resolve(root: JsonSchema, path: Path) -> JsonSchema:
    """The schema at a path, references and nullability resolved; empty when the path leaves the schema."""
    node = deref(root, root)
    for part in path:
        if isinstance(part, int):
            node = deref(root, node.get("items", {}))
        else:
            more = node.get("additionalProperties", {})
            node = deref(root, node.get("properties", {}).get(part, more if isinstance(more, Mapping) else {}))
    return node


def deref(root: JsonSchema, node: JsonSchema) -> JsonSchema:
    """A schema node without reference and without the ``or null`` of optional fields."""
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rpartition("/")[2]]
        elif "anyOf" in node:
            node = next((one for one in node["anyOf"] if one.get("type") != "null"), {})
        else:
            return node
