"""YAML text -> documents of plain values, with the line of every field, and every problem of the text at once.

Built on PyYAML's event stream (libyaml when it is there), not on its loader: events know lines, let duplicate keys be
seen, and allow limits, so that no alias bomb is expanded and no deep nesting recursed into. Scalars follow what the
Kubernetes tools read (YAML 1.1 without times and base-60 numbers). Documents are parsed one by one: a broken one does
not hide the others.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import yaml

from mlship.api import problems
from mlship.api.problems import Path, Problem

MAX_CHARACTERS = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 64
MAX_DOCUMENTS = 1_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|(?:0|[1-9][0-9_]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands (line and column from 1), and how it was written when that was a plain scalar."""

    line: int
    column: int
    plain: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """One document: its value, the mark of every path, its first line, and what is wrong with its text."""

    value: Any
    marks: dict[Path, Mark]
    line: int
    problems: tuple[Problem, ...]

    def mark(self, path: Path) -> Mark:
        """The mark of a path, or of its nearest ancestor that was written."""
        while path not in self.marks and path:
            path = path[:-1]
        return self.marks.get(path, Mark(self.line, 1))


@dataclasses.dataclass(slots=True)
class _Node:
    mark: Mark
    scalar: Any = None
    pairs: list[tuple[_Node, _Node]] | None = None
    items: list[_Node] | None = None
    size: int = 1
    depth: int = 1
    merge: bool = False


class _Refused(Exception):
    """A text that is not read further."""

    def __init__(self, line: int, column: int, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.problem = Problem((), reason, hint, line=line, column=column)


def read(text: str) -> tuple[Text, ...]:
    """Every document that is not empty."""
    if len(text) > MAX_CHARACTERS:
        reason = f"the text has {len(text)} characters; at most {MAX_CHARACTERS} are read"
        return (Text(None, {}, 1, (Problem((), reason, "split it into several files", line=1),)),)
    found: list[Text] = []
    for first_line, chunk in _chunks(text):
        found.extend(_documents(chunk, first_line))
        if len(found) > MAX_DOCUMENTS:
            reason = f"more than {MAX_DOCUMENTS} documents in one text"
            found.append(Text(None, {}, first_line, (Problem((), reason, "split the file", line=first_line),)))
            break
    return tuple(found)


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text cut before every ``---`` line, always a document marker. Directives stay with their document."""
    cuts = [match.start() for match in _SEPARATOR.finditer(text)]
    start, line = 0, 1
    for cut in [*cuts, len(text)]:
        piece = text[start:cut]
        if cut < len(text) and all(not row.strip() or row[0] in "#%" for row in piece.splitlines()) and "%" in piece:
            continue
        if piece.strip():
            yield line, piece
        line += piece.count("\n")
        start = cut


def _documents(chunk: str, first_line: int) -> Iterator[Text]:
    builder = _Builder(first_line - 1)
    try:
        for event in yaml.parse(chunk, Loader=_Loader):
            root = builder.feed(event)
            if root is not None:
                yield _finish(root)
    except _Refused as refused:
        yield Text(None, {}, first_line, (refused.problem,))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + first_line, mark.column + 1) if mark else (first_line, 1)
        yield Text(None, {}, first_line, (_broken(chunk, error, line, column, line - first_line),))
    except (yaml.YAMLError, ValueError) as error:
        # An unprintable character, which the reader refuses before any event: its position is not a line.
        reason = f"not YAML: {problems.cap(str(error).splitlines()[0])}"
        yield Text(None, {}, first_line, (Problem((), reason, line=first_line, column=1),))


def _broken(chunk: str, error: yaml.MarkedYAMLError, line: int, column: int, row: int) -> Problem:
    rows = chunk.splitlines()
    around = rows[max(0, row - 1) : row + 1]
    hint = (
        "indent with spaces, not with tabs"
        if any("\t" in one[: len(one) - len(one.lstrip())] for one in around)
        else ""
    )
    said = " ".join(part for part in (error.context, error.problem) if part)
    return Problem((), f"not YAML: {problems.cap(said)}", hint, line=line, column=column)


class _Builder:
    """Events of a chunk -> a tree, without recursion and within the limits."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._stack: list[tuple[_Node, list[_Node], str | None]] = []
        self._anchors: dict[str, _Node] = {}

    def feed(self, event: yaml.Event) -> _Node | None:
        """The root of a document when this event completes it."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}
        elif isinstance(event, yaml.ScalarEvent):
            return self._add(self._scalar(event), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._open(event)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            return self._close()
        return None

    def _place(self, event: yaml.Event) -> tuple[int, int]:
        mark = event.start_mark
        return (mark.line + 1 + self._offset, mark.column + 1) if mark else (self._offset + 1, 1)

    def _open(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        line, column = self._place(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(line, column, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise _Refused(line, column, f"the tag {problems.cap(event.tag, 40)} is not supported", "remove it")
        node = _Node(Mark(line, column))
        if isinstance(event, yaml.MappingStartEvent):
            node.pairs = []
        else:
            node.items = []
        self._stack.append((node, [], event.anchor))

    def _close(self) -> _Node | None:
        node, children, anchor = self._stack.pop()
        if node.pairs is not None:
            node.pairs.extend(zip(children[::2], children[1::2], strict=True))
        else:
            node.items = children
        node.size = 1 + sum(child.size for child in children)
        node.depth = 1 + max((child.depth for child in children), default=0)
        return self._add(node, anchor)

    def _alias(self, event: yaml.AliasEvent) -> _Node | None:
        line, column = self._place(event)
        name = event.anchor or ""
        target = self._anchors.get(name)
        if target is None:
            raise _Refused(line, column, f"the alias *{problems.cap(name, 40)} has no anchor before it")
        return self._add(
            dataclasses.replace(target, mark=dataclasses.replace(target.mark, line=line, column=column)), None
        )

    def _add(self, node: _Node, anchor: str | None) -> _Node | None:
        # Size and depth count what aliases stand for, so they bound the expansion before it happens.
        if node.size > MAX_NODES:
            raise _Refused(node.mark.line, node.mark.column, f"more than {MAX_NODES} values, aliases expanded")
        if node.depth > MAX_DEPTH:
            raise _Refused(node.mark.line, node.mark.column, f"nested deeper than {MAX_DEPTH} levels")
        if anchor:
            self._anchors[anchor] = node
        if not self._stack:
            return node
        self._stack[-1][1].append(node)
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> _Node:
        line, column = self._place(event)
        plain = event.style in (None, "") and not event.tag
        tag = (event.tag or "").removeprefix(_TAG)
        if tag not in ("", "!", "str", "int", "float", "bool", "null"):
            raise _Refused(line, column, f"the tag {problems.cap(event.tag or '', 40)} is not supported", "remove it")
        literal = plain or tag in ("int", "float", "bool", "null")
        value = _resolve(event.value) if literal else event.value
        return _Node(Mark(line, column, event.value if plain else None), value, merge=plain and event.value == "<<")


def _resolve(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        # Kubernetes' tools turn YAML into JSON, where 1.0 and 1 are one number.
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1).lower())
    return text


def _integer(text: str) -> int | str:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2].lower())
    try:
        if base:
            return sign * int(digits[2:], base)
        if len(digits) > 1 and digits[0] == "0":
            return sign * int(digits, 8)
        return sign * int(digits) if len(digits) <= 40 else text
    except ValueError:
        return text


def _finish(root: _Node) -> Text:
    marks: dict[Path, Mark] = {}
    found: list[Problem] = []
    value = _plain(root, (), marks, found)
    return Text(value, marks, root.mark.line, tuple(found))


def _plain(node: _Node, path: Path, marks: dict[Path, Mark], found: list[Problem]) -> Any:
    """The plain value; its depth is bounded by the builder (aliases add at most their own)."""
    marks.setdefault(path, node.mark)
    if node.items is not None:
        return [_plain(item, (*path, index), marks, found) for index, item in enumerate(node.items)]
    if node.pairs is None:
        return node.scalar
    result: dict[str, Any] = {}
    merged: list[_Node] = []
    for key, value in node.pairs:
        if key.merge:
            merged.extend(value.items if value.items is not None else [value])
            continue
        name = _key(key, path, found)
        if name in result:
            first = marks[(*path, name)].line
            reason = f"the key is written twice, first on line {first}"
            found.append(Problem((*path, name), reason, "keep one", line=key.mark.line, column=key.mark.column))
        marks[(*path, name)] = dataclasses.replace(key.mark, plain=value.mark.plain)
        result[name] = _plain(value, (*path, name), marks, found)
    for other in merged:
        _merge(other, result, path, marks, found)
    return result


def _key(key: _Node, path: Path, found: list[Problem]) -> str:
    if key.pairs is None and key.items is None:
        if isinstance(key.scalar, str):
            return key.scalar
        # YAML 1.1 reads the bare keys on, yes, no as booleans; as keys they can only be meant as text.
        return key.mark.plain if key.mark.plain is not None else str(key.scalar)
    found.append(Problem(path, "a key must be a string", line=key.mark.line, column=key.mark.column))
    return f"<line {key.mark.line}>"


def _merge(other: _Node, result: dict[str, Any], path: Path, marks: dict[Path, Mark], found: list[Problem]) -> None:
    if other.pairs is None:
        found.append(Problem(path, "<< needs a map", line=other.mark.line, column=other.mark.column))
        return
    inherited: dict[Path, Mark] = {}
    for name, value in _plain(other, path, inherited, found).items():
        if name not in result:
            result[name] = value
            marks.update({where: mark for where, mark in inherited.items() if where[: len(path) + 1] == (*path, name)})
