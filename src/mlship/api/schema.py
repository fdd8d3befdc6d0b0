"""Objects -> the schema of a CustomResourceDefinition and the pages of the reference. Pure: it makes text.

The golden test compares the committed pages with what is made here, so that the reference cannot fall behind the
types, and writes them when it is told to accept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlship.api import honour_tables, kinds, validate

# Kinds with a page of their own, and the parts each page goes into.
PAGES = ("InferenceService", "ServingRuntime", "InferenceGraph", "ScaledObject")

_SCALARS = {"string": "string", "integer": "integer", "boolean": "boolean", "number": "number"}
_MORE = {
    "uniqueItems",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "description",
    "x-kubernetes-int-or-string",
}


def crd_schema(kind: kinds.Kind) -> dict[str, Any]:
    """The structural schema of a kind, as it stands in a CustomResourceDefinition (openAPIV3Schema)."""
    if kind.model is None:
        raise ValueError(f"{kind.kind} has no class")
    root = validate.schema(kind.model)
    return _structural(root, root)


def _structural(root: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    described = node.get("description")
    node = validate.deref(root, node)
    made = {key: value for key, value in node.items() if key in _MORE}
    if described:
        made["description"] = described
    if "const" in node:
        made |= {"type": "string", "enum": [node["const"]]}
    elif "type" in node:
        made["type"] = node["type"]
    if "properties" in node:
        made["properties"] = {name: _structural(root, inner) for name, inner in node["properties"].items()}
        if needed := node.get("required"):
            made["required"] = sorted(needed)
    elif node.get("type") == "object":
        more = node.get("additionalProperties")
        if isinstance(more, Mapping):
            made["additionalProperties"] = _structural(root, more)
        else:
            made["x-kubernetes-preserve-unknown-fields"] = True
    if node.get("type") == "array":
        made["items"] = _structural(root, node.get("items", {}))
    return made


def page(kind: kinds.Kind) -> str:
    """The reference page of a kind, Markdown."""
    if kind.model is None:
        raise ValueError(f"{kind.kind} has no class")
    root = validate.schema(kind.model)
    lines = [
        f"# {kind.kind}",
        "",
        "<!-- Made from the types in src/mlship/api by `python -m pytest tests/golden/api --accept`. Do not edit. -->",
        "",
        (kind.model.__doc__ or "").strip(),
        "",
        f"`apiVersion: {kind.api_versions[0]}`, `kind: {kind.kind}`, "
        f"{'in a namespace' if kind.namespaced else 'for every namespace'}.",
    ]
    if kind.stance is kinds.Stance.REFUSED:
        lines += ["", f"Validated, and not run by this version: {kind.reason}. Instead: {kind.instead}."]
    lines += [
        "",
        "Fields marked **required** must be there. *Refused* fields are known and valid, and `apply` says what to do",
        "instead; *without effect* means that `apply` accepts the field and says so.",
    ]
    for name in _reachable(root):
        lines += ["", *_section(root, name)]
    return "\n".join(lines) + "\n"


def _reachable(root: Mapping[str, Any]) -> Iterator[str]:
    """The types of a page in the order in which a reader meets them; metadata is the same everywhere."""
    seen: list[str] = []
    waiting = list(_references(root.get("properties", {})))
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.append(name)
        yield name
        waiting.extend(_references(root["$defs"][name].get("properties", {})))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for key, inner in node.items():
            if key != "$defs":
                yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _section(root: Mapping[str, Any], name: str) -> Iterator[str]:
    node = root["$defs"][name]
    yield f"## {name}"
    yield ""
    yield str(node.get("description", "")).strip()
    yield ""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    required = set(node.get("required", ()))
    for field, inner in node.get("properties", {}).items():
        mark = " **required**" if field in required else ""
        remark = _remark(name, field)
        meaning = " ".join(part for part in (str(inner.get("description", "")), remark) if part)
        yield f"| `{field}`{mark} | {_type(root, inner)} | {meaning.replace('|', chr(92) + '|')} |"


def _type(root: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if "$ref" in node:
        return f"[{_last(node)}](#{_last(node).lower()})"
    if "anyOf" in node:
        return _type(root, next(one for one in node["anyOf"] if one.get("type") != "null"))
    if node.get("x-kubernetes-int-or-string"):
        return "quantity" if "pattern" in node else "integer or string"
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"list of {_type(root, node.get('items', {}))}"
    if node.get("type") == "object":
        more = node.get("additionalProperties")
        return f"map to {_type(root, more)}" if isinstance(more, Mapping) else "object"
    return _SCALARS.get(str(node.get("type")), "any")


def _last(node: Mapping[str, Any]) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _remark(owner: str, field: str) -> str:
    """What this version does with a field, from the tables of ``honour``."""
    for table in honour_tables.REFUSED_IN.get(owner, ()):
        for name, (reason, _) in table.items():
            if _camel(name) == field:
                return f"*Refused: {reason}.*"
    for noticed in honour_tables.NOTICED_IN.get(owner, ()):
        for name, reason in noticed.items():
            if _camel(name) == field:
                return f"*Without effect: {reason.removeprefix('has no effect: ')}.*"
    return ""


def _camel(name: str) -> str:
    special = {"host_ipc": "hostIPC", "host_pid": "hostPID", "set_hostname_as_fqdn": "setHostnameAsFQDN"}
    head, *rest = name.split("_")
    return special.get(name, head + "".join(part.capitalize() for part in rest))
