"""Protobuf's text format, as far as configuration files use it: ``config.pbtxt`` becomes dictionaries and lists.

A field that is given several times, or as a list, is a list; what a message means is for who asks to say. The format:
https://protobuf.dev/reference/protobuf/textformat-spec/. Nothing here knows a schema, so that no field is lost that a
newer server has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mlship import errors

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<mark>[{}<>\[\]:;,])"""
    r"""|(?P<word>[-+]?[A-Za-z0-9_.][A-Za-z0-9_.+-]*)|(?P<other>.)""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}
_DEEPEST = 32
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._tokens = list(_tokens(text))
        self._at = 0

    def _bad(self, what: str) -> errors.SpecError:
        line = self._tokens[min(self._at, len(self._tokens) - 1)][2] if self._tokens else 1
        return errors.SpecError(f"{self._where} line {line}: {what}.")

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str | None, str]:
        if self._at >= len(self._tokens):
            raise self._bad("it ends in the middle of a field")
        kind, text, _ = self._tokens[self._at]
        self._at += 1
        return kind, text

    def message(self, end: str = "", depth: int = 0) -> dict[str, list[Any]]:
        if depth > _DEEPEST:
            raise self._bad("messages are nested too deep")
        found: dict[str, list[Any]] = {}
        while self._peek() != end:
            kind, name = self._next()
            if kind != "word":
                raise self._bad(f"expected the name of a field, got {name[:40]!r}")
            has_colon = self._peek() == ":"
            self._at += has_colon
            found.setdefault(name, []).extend(self._values(depth, has_colon=has_colon))
            if self._peek() in (";", ",") and end != self._peek():
                self._at += 1
        self._at += bool(end)
        return found

    def _values(self, depth: int, *, has_colon: bool) -> list[Any]:
        if self._peek() != "[":
            return [self._value(depth, has_colon=has_colon)]
        self._at += 1
        values = []
        while self._peek() != "]":
            values.append(self._value(depth, has_colon=True))
            if self._peek() == ",":
                self._at += 1
        self._at += 1
        return values

    def _value(self, depth: int, *, has_colon: bool) -> Any:
        kind, text = self._next()
        if text in _CLOSING:
            return self.message(_CLOSING[text], depth + 1)
        if kind == "text" and has_colon:
            joined = _unquoted(text)
            while self._at < len(self._tokens) and self._tokens[self._at][0] == "text":
                joined += _unquoted(self._next()[1])
            return joined
        if kind != "word" or not has_colon:
            raise self._bad(f"expected a value, got {text[:40]!r}")
        return _scalar(text)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of each."""
    line, at = 1, 0
    for found in _TOKEN.finditer(text):
        if found.lastgroup is not None:
            line, at = line + text.count("\n", at, found.start()), found.start()
            yield found.lastgroup, found.group(), line


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read(text: str, *, where: str) -> dict[str, list[Any]]:
    """The fields of ``text``, each with all its values. Raises SpecError: the line, and what is wrong there."""
    return _Reader(text, where).message()
