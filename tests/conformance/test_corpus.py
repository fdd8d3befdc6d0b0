"""Every public KServe document is typed or refused with a precise reason, and never against KServe's own schema.

Reads ``../shared/kserve`` in place. Prints the table that ``docs/conformance.md`` holds, and compares the two.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from mlship.api import honour, kinds, load, problems, runtime, schema

ROOT = pathlib.Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "kserve"
PAGE = ROOT / "docs" / "conformance.md"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the public KServe documents are not beside the repository")

TYPED = (
    "InferenceService",
    "ServingRuntime",
    "ClusterServingRuntime",
    "InferenceGraph",
    "TrainedModel",
    "ClusterStorageContainer",
    "ScaledObject",
)

# Documents that KServe's schema takes and we do not; each breaks a rule that is not in the schema.
STRICTER = {
    "0c4cd103a487": "it has no metadata, so no name: no API server stores it",
    "343b03fb8560": "a container name that ends in a space: no pod can have it",
    "a5efef584908": "sklearn.name: KServe's webhook refuses it (validatePredictor)",
    "c7621bf695d6": "a dot in the name: KServe's webhook refuses it (IsvcNameFmt)",
    "ff8884a42546": "a step names a node that is not there: the router would fail on every request",
}

# Paths where our schema differs from the CRD on purpose. A trailing * matches everything below.
DIFFERENT = {
    "spec.canary[].predictor.*": "required names in a canary's predictor contradict the webhook that forbids them; we "
    "take the stable predictor's form",
    "*.httpGet.required.port": "KServe leaves it out for serving containers; check_container wants it elsewhere",
    "*.tcpSocket.required.port": "the same",
    "spec.predictor.workerSpec.os.required.name": "KServe wants it here and nowhere else",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A sample document and what we say of it."""

    path: pathlib.Path
    source: str
    raw: Mapping[str, Any]
    document: load.Document

    @property
    def id(self) -> str:
        return self.path.stem


@functools.cache
def cases() -> tuple[Case, ...]:
    found = []
    for path in sorted((CORPUS / "samples").glob("*/*.yaml")):
        text = path.read_text()
        loaded = load.load(text, source=path.name)
        source = re.sub(r"^# source: ", "", text.splitlines()[0])
        plain = [one for one in yaml.safe_load_all(text) if one is not None]
        assert len(plain) == len(loaded.documents), path
        found += [Case(path, source, raw, one) for raw, one in zip(plain, loaded.documents, strict=True)]
    return tuple(found)


@functools.cache
def crd(kind: str) -> Mapping[str, Mapping[str, Any]]:
    """KServe's schema of a kind, or KEDA's, by apiVersion."""
    entry = kinds.KINDS[kind]
    found = yaml.load((CORPUS / "crds" / f"{entry.group}_{entry.plural}.yaml").read_text(), Loader=yaml.CSafeLoader)
    group = found["spec"]["group"]
    return {f"{group}/{one['name']}": one["schema"]["openAPIV3Schema"] for one in found["spec"]["versions"]}


# A strict validator of structural schemas, as an API server with fieldValidation=Strict judges.

JSON_TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def strict(spec: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    if spec.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{path}: not an integer or string"
        elif isinstance(value, str) and not re.search(spec.get("pattern", ""), value):
            yield f"{path}: pattern"
        return
    wanted = JSON_TYPES.get(spec.get("type", ""), object)
    if not isinstance(value, wanted) or (spec.get("type") == "integer" and isinstance(value, bool)):
        yield f"{path}: not of type {spec['type']}"
        return
    yield from bounds(spec, value, path)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from strict(spec.get("items", {}), item, f"{path}[{index}]")
        yield from doubles(spec, value, path)
    if isinstance(value, dict):
        yield from fields(spec, value, path)


def bounds(spec: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if "enum" in spec and value not in spec["enum"]:
        yield f"{path}: not in {spec['enum']}"
    if "pattern" in spec and not re.search(spec["pattern"], value):
        yield f"{path}: pattern"
    if isinstance(value, int) and not spec.get("minimum", value) <= value <= spec.get("maximum", value):
        yield f"{path}: out of range"
    if isinstance(value, str) and not spec.get("minLength", 0) <= len(value) <= spec.get("maxLength", 10**9):
        yield f"{path}: length"
    if isinstance(value, list) and len(value) < spec.get("minItems", 0):
        yield f"{path}: too few items"


def doubles(spec: Mapping[str, Any], value: list[Any], path: str) -> Iterator[str]:
    if spec.get("x-kubernetes-list-type") != "map":
        return
    known = spec["items"]["properties"]
    keys = [
        tuple(item.get(key, known[key].get("default")) for key in spec["x-kubernetes-list-map-keys"])
        for item in value
        if isinstance(item, dict)
    ]
    if len(set(keys)) < len(keys):
        yield f"{path}: the same key twice"


def fields(spec: Mapping[str, Any], value: Mapping[Any, Any], path: str) -> Iterator[str]:
    for name in spec.get("required", ()):
        if value.get(name) is None:
            yield f"{path}.{name}: required"
    known, more = spec.get("properties", {}), spec.get("additionalProperties")
    free = path == ".metadata" or spec.get("x-kubernetes-preserve-unknown-fields") or more is True
    for name, inner in value.items():
        if inner is None:
            continue
        if name in known:
            yield from strict(known[name], inner, f"{path}.{name}")
        elif isinstance(more, dict):
            yield from strict(more, inner, f"{path}.{name}")
        elif not free:
            yield f"{path}.{name}: unknown field"


def test_every_document_is_typed_or_refused_with_a_place() -> None:
    for case in cases():
        document = case.document
        assert (document.object is None) == bool(document.problems), case.path
        for problem in document.problems:
            assert problem.line > 0, problem
            assert problem.field, problem
            assert problem.reason, problem


def test_what_kserves_schema_refuses_is_refused() -> None:
    missed = {
        case.id: found
        for case in cases()
        if (spec := _schema_of(case)) and (found := list(strict(spec, case.raw))) and not case.document.problems
    }
    assert not missed


def test_the_corpus_holds_documents_that_kserve_refuses() -> None:
    refused = [case.id for case in cases() if (spec := _schema_of(case)) and list(strict(spec, case.raw))]
    assert len(refused) >= 15, "the comparison above would say nothing"


def test_what_kserves_schema_takes_is_taken_but_for_listed_reasons() -> None:
    stricter = {
        case.id
        for case in cases()
        if (spec := _schema_of(case)) and not list(strict(spec, case.raw)) and case.document.problems
    }
    assert stricter == set(STRICTER)


def _schema_of(case: Case) -> Mapping[str, Any] | None:
    kind = str(case.raw.get("kind"))
    return crd(kind).get(str(case.raw.get("apiVersion"))) if kind in TYPED else None


@pytest.mark.parametrize("kind", TYPED)
def test_our_fields_are_kserves(kind: str) -> None:
    """Name by name and type by type, through every nested type of core Kubernetes that KServe embeds."""
    entry = kinds.KINDS[kind]
    ours = schema.crd_schema(entry)["properties"]["spec"]
    theirs = crd(kind)[entry.api_versions[0]]["properties"]["spec"]
    found = [one for one in differences(ours, theirs, "spec") if not _expected(one)]
    assert not found


def _expected(difference: str) -> bool:
    path = difference.partition(": ")[0]
    patterns = (re.escape(one).replace(r"\*", ".*") for one in DIFFERENT)
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[str]:
    if _type(ours) != _type(theirs):
        yield f"{path}: {_type(ours)} here, {_type(theirs)} there"
        return
    if set(ours.get("enum", ())) != set(theirs.get("enum", ())):
        yield f"{path}: enum {ours.get('enum')} here, {theirs.get('enum')} there"
    for name in ("minimum", "maximum", "minItems", "maxLength", "minLength"):
        if name in theirs and ours.get(name) != theirs[name]:
            yield f"{path}: {name} {ours.get(name)} here, {theirs[name]} there"
    mine, other = ours.get("properties", {}), theirs.get("properties", {})
    for name in sorted(mine.keys() ^ other.keys()):
        yield f"{path}.{name}: {'only here' if name in mine else 'only there'}"
    for name in sorted(set(theirs.get("required", ())) - set(ours.get("required", ()))):
        yield f"{path}.required.{name}: required there"
    for name in mine.keys() & other.keys():
        yield from differences(mine[name], other[name], f"{path}.{name}")
    if "items" in theirs:
        yield from differences(ours.get("items", {}), theirs["items"], f"{path}[]")
    if isinstance(theirs.get("additionalProperties"), dict):
        yield from differences(ours.get("additionalProperties", {}), theirs["additionalProperties"], f"{path}{{}}")


def _type(spec: Mapping[str, Any]) -> str:
    return "int-or-string" if spec.get("x-kubernetes-int-or-string") else str(spec.get("type"))


# The table


def outcome(case: Case) -> tuple[str, str]:
    """What happens to a document on ``mlship apply``, and why."""
    document = case.document
    if document.problems:
        return "refused: invalid", "; ".join(_short(problem) for problem in document.problems)
    if document.object is None:
        return "not applicable", kinds.KINDS[document.raw["kind"]].reason
    judged = honour.judge(document.object, cluster=runtime.builtin())
    refused = [problem for problem in judged if problem.severity is problems.Severity.REFUSE]
    if refused:
        return "refused because", "; ".join(_short(problem) for problem in refused)
    return "honoured", "; ".join(f"note: {_short(problem)}" for problem in judged)


def _short(problem: problems.Problem) -> str:
    reason = problem.reason.partition(". Considered")[0]
    return f"`{problem.field}` {reason}".replace("|", "\\|")


def page() -> str:
    rows = [(case, *outcome(case)) for case in cases()]
    totals = collections.Counter(what for _, what, _ in rows)
    lines = [
        "# Conformance with public KServe documents",
        "",
        "<!-- Made by `python -m pytest tests/conformance/test_corpus.py --accept`. Do not edit. -->",
        "",
        "What `mlship apply` answers to each YAML document of KServe's repository and website, on the local backend.",
        "Every document is typed whole before it is judged. *Honoured* documents are served (notes are shown);",
        "*refused because* names each field that this version cannot do; *refused: invalid* documents break",
        "KServe's own schema or rules. Runtimes of the user's own are not assumed.",
        "",
        "| outcome | documents |",
        "|---|---|",
        *(f"| {what} | {count} |" for what, count in sorted(totals.items())),
        "",
        "Valid for KServe's schema and refused here, because of a rule that is not in the schema:",
        "",
        *(f"- `{name}`: {reason}" for name, reason in sorted(STRICTER.items())),
        "",
        "| document | kind | source | outcome | why |",
        "|---|---|---|---|---|",
    ]
    for case, what, why in rows:
        lines.append(f"| {case.id} | {case.raw.get('kind')} | {case.source} | {what} | {why} |")
    return "\n".join(lines) + "\n"


def test_the_page_holds_the_table(golden: Callable[[pathlib.Path, str], None]) -> None:
    text = page()
    print(text)
    golden(PAGE, text)


def test_sample_refusals_say_what_works_instead() -> None:
    for case in cases():
        if case.document.object is None:
            continue
        for problem in honour.refusals(case.document.object):
            assert problem.hint, f"{case.id}: {problem}"


def test_no_refusal_names_a_secret() -> None:
    values = {
        str(variable["value"])
        for case in cases()
        for variable in _variables(case.raw)
        if variable.get("value") and len(str(variable["value"])) > 8
    }
    said = " ".join(outcome(case)[1] for case in cases())
    assert values
    assert not [value for value in values if value in said and "://" not in value]


def _variables(raw: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(raw, dict):
        yield from (one for one in raw.get("env") or () if isinstance(one, dict))
        for inner in raw.values():
            yield from _variables(inner)
    elif isinstance(raw, list):
        for inner in raw:
            yield from _variables(inner)
