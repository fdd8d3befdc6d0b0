"""The way in: YAML or JSON text -> typed objects, with every problem of the text at once.

Reading files is the caller's job; ``source`` is the name that problems show. A document's object is there when it is
valid (``check`` included); whether this version can do what it asks for is ``honour``'s question, whose answers
``Document.place`` puts on lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlship.api import check, meta, problems, redact, validate, yamltext
from mlship.api.problems import Path, Problem

_MAX_LISTED = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One object of a text. ``raw`` is what was written, ``object`` the typed form when nothing is wrong with it.

    ``object`` is None without problems for kinds that are only known by name (Secret, Deployment ...).
    ``number`` counts documents from 1; members of a List share it.
    """

    raw: dict[str, Any]
    object: meta.Object | None
    line: int
    problems: tuple[Problem, ...]
    number: int = 1
    source: str = ""
    text: yamltext.Text | None = dataclasses.field(default=None, repr=False, compare=False)
    prefix: Path = ()

    @property
    def title(self) -> str:
        """``InferenceService default/iris``, as far as it can be said."""
        metadata = self.raw.get("metadata")
        inside = metadata if isinstance(metadata, Mapping) else {}
        name = inside.get("name") or "?"
        space = inside.get("namespace")
        return f"{self.raw.get('kind') or '?'} {f'{space}/' if space else ''}{name}"

    def place(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """The problems with file, line and column, in the order of the text."""
        placed = [self._place(problem) for problem in found]
        return tuple(sorted(placed, key=lambda problem: (problem.line, problem.column)))

    def _place(self, problem: Problem) -> Problem:
        line, column, hint = problem.line, problem.column, problem.hint
        if self.text is not None and not line:
            mark = self.text.mark((*self.prefix, *problem.path))
            line, column, hint = mark.line, mark.column, _sharpen(problem, mark)
        return dataclasses.replace(problem, file=self.source, line=line, column=column, document=self.number, hint=hint)


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A whole text. ``problems`` are those of all documents and of the text itself, in order."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]

    @property
    def objects(self) -> tuple[meta.Object, ...]:
        """The valid objects."""
        return tuple(document.object for document in self.documents if document.object is not None)


def load(text: str, *, source: str) -> Loaded:
    """Read a text of one or many documents. Never raises for what is in it."""
    documents = tuple(_documents(text, source))
    documents = tuple(_with_doubles(documents))
    found = tuple(problem for document in documents for problem in document.problems)
    if not documents:
        found = (Problem((), "there is no document in it", "write an InferenceService", file=source, line=1),)
    return Loaded(documents, found)


def parse(raw: Mapping[str, Any], *, source: str = "") -> meta.Object:
    """The typed object of a dict (of JSON). Raises ``problems.InvalidObject``, a SpecError, with every problem."""
    document = _document(dict(raw), 1, source, None, ())
    if document.object is None:
        found = document.problems or tuple(check.foreign(document.raw))
        raise problems.InvalidObject(found)
    return document.object


def _documents(text: str, source: str) -> Iterator[Document]:
    number = 0
    for part in yamltext.read(text):
        if part.value is None and not part.problems:
            continue
        number += 1
        if part.problems and part.value is None:
            placed = tuple(dataclasses.replace(one, file=source, document=number) for one in part.problems)
            yield Document({}, None, part.line, placed, number, source, part)
            continue
        for prefix, raw in _members(part.value):
            yield _document(raw, number, source, part, prefix)


def _members(value: Any) -> Iterator[tuple[Path, Any]]:
    """A document, or the members of a Kubernetes List."""
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"][:_MAX_LISTED]):
            yield ("items", index), item
    else:
        yield (), value


def _document(raw: Any, number: int, source: str, text: yamltext.Text | None, prefix: Path) -> Document:
    line = text.mark(prefix).line if text else 0
    bare = Document(raw if isinstance(raw, dict) else {}, None, line, (), number, source, text, prefix)
    own = [problem for problem in (text.problems if text else ()) if problem.path[: len(prefix)] == prefix]
    if not isinstance(raw, dict):
        found = [
            *own,
            problems.refuse((), "expected a map with apiVersion, kind and metadata", "start with apiVersion:"),
        ]
        return dataclasses.replace(bare, problems=bare.place(found))
    typed, wrong = validate.typed(raw)
    found = [*own, *wrong, *(check.check(typed) if typed else _rules(raw, wrong))]
    return dataclasses.replace(bare, object=None if found else typed, problems=bare.place(found))


def _rules(raw: dict[str, Any], wrong: tuple[Problem, ...]) -> Iterator[Problem]:
    """The broken rules of what is left of an object without its wrong parts, but for those that these parts caused."""
    rest = validate.partial(raw, wrong) if wrong else None
    for problem in check.check(rest) if rest else ():
        if not any(_caused(problem, one) for one in wrong):
            yield problem


def _caused(problem: Problem, by: Problem) -> bool:
    shorter = min(len(problem.path), len(by.path))
    same_branch = problem.path[:shorter] == by.path[:shorter]
    # A misspelt field is missing under its right name.
    renamed = by.reason == validate.UNKNOWN and problem.path[:-1] == by.path[:-1]
    return same_branch or (renamed and problem.reason == validate.MISSING)


def _with_doubles(documents: Iterable[Document]) -> Iterator[Document]:
    seen: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        known = document.object
        key = (known.kind, known.namespace, known.name) if known else None
        if key is not None and key in seen:
            reason = f"{document.title} is written twice, first on line {seen[key].line}"
            found = document.place([problems.refuse(("metadata", "name"), reason, "keep one, or rename one")])
            yield dataclasses.replace(document, object=None, problems=found)
            continue
        if key is not None:
            seen[key] = document
        yield document


def _sharpen(problem: Problem, mark: yamltext.Mark) -> str:
    """The hint with the author's own text where a value was not read as it was meant (1.10, yes, on)."""
    if mark.plain and problem.hint.endswith("in quotes") and not redact.is_secret(problem.path):
        why = ": YAML reads it as true or false" if problem.reason.endswith(("got true", "got false")) else ""
        return f'write "{problems.cap(mark.plain, 60)}" in quotes{why}'
    return problem.hint
