from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlship.api import yamltext


def value(text: str) -> Any:
    (found,) = yamltext.read(text)
    assert found.problems == ()
    return found.value


def problem(text: str) -> tuple[str, int]:
    found = [(one.reason, one.line) for part in yamltext.read(text) for one in part.problems]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("null", None),
        ("'null'", "null"),
        ("0o17", 15),
        ("017", 15),
        ("09", 9),
        ("0x1F", 31),
        ("0b11", 3),
        ("-1_000", -1000),
        ("1.0", 1),
        ("1.5", 1.5),
        ("1e3", 1000),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1.2.3", "1.2.3"),
        ("1" * 60, "1" * 60),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("=", "="),
    ],
)
def test_scalars_are_what_kubernetes_tools_read(text: str, expected: Any) -> None:
    found = value(f"a: {text}")["a"]
    assert found == expected
    assert type(found) is type(expected)


def test_marks_know_every_line() -> None:
    (found,) = yamltext.read("a:\n  b:\n    - x\n    - c: 1.10\n")
    assert found.mark(("a", "b")) == yamltext.Mark(2, 3)
    assert found.mark(("a", "b", 1, "c")) == yamltext.Mark(4, 7, "1.10")
    assert found.mark(("a", "b", 1, "not", "there")).line == 4
    assert found.mark(("no",)).line == 1


def test_documents_have_lines_of_the_whole_text() -> None:
    found = yamltext.read("# one\na: 1\n---\n---\nb: 2\n...\n---\n# nothing\n---\nc: 3")
    assert [(one.value, one.line) for one in found if one.value] == [({"a": 1}, 2), ({"b": 2}, 5), ({"c": 3}, 10)]


def test_a_directive_stays_with_its_document() -> None:
    assert value("%YAML 1.1\n---\na: 1\n") == {"a": 1}


def test_separators_inside_of_texts_are_none() -> None:
    assert value("a: |\n  ---\n  b\n") == {"a": "---\nb\n"}


def test_a_broken_document_does_not_hide_the_others() -> None:
    found = yamltext.read("a: [1\n---\nb: 2\n---\nc: }\n")
    assert [one.value for one in found] == [None, {"b": 2}, None]
    assert [one.problems[0].line for one in found if one.problems] == [2, 5]


def test_duplicate_keys_name_both_lines() -> None:
    assert problem("a: 1\nb: 2\na: 3") == ("the key is written twice, first on line 1", 3)
    assert problem("a: {b: 1, b: 2}")[0].startswith("the key is written twice")


def test_bare_words_stay_words_as_keys() -> None:
    assert value("on: 1\nno: 2\n1: 3") == {"on": 1, "no": 2, "1": 3}


def test_aliases_and_merges() -> None:
    text = "a: &a {x: 1, y: [1]}\nb: *a\nc: {<<: *a, x: 2}\nd: {<<: [*a, {z: 3}]}"
    found = value(text)
    assert found["b"] == {"x": 1, "y": [1]}
    assert found["c"] == {"x": 2, "y": [1]}
    assert found["d"] == {"x": 1, "y": [1], "z": 3}
    found["b"]["y"].append(2)
    assert found["a"]["y"] == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: *b", "the alias *b has no anchor before it"),
        ("a: &a [*a]", "the alias *a has no anchor before it"),
        ("a: !python/object:os.system x", "the tag !python/object:os.system is not supported"),
        ("a: !!timestamp 2024-01-01", "the tag tag:yaml.org,2002:timestamp is not supported"),
        ("a: !!set {x}", "the tag tag:yaml.org,2002:set is not supported"),
        ("? [1]\n: 2", "a key must be a string"),
        ("a: {<<: 1}", "<< needs a map"),
        ("\x01", "not YAML"),
        ("a:\n\tb: 1", "not YAML"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    assert problem(text)[0].startswith(reason)


def test_tabs_are_the_commonest_reason_and_are_named() -> None:
    (found,) = yamltext.read("a:\n\tb: 1")
    assert "tabs" in found.problems[0].hint


def test_a_bomb_of_aliases_is_never_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert problem("\n".join(lines))[0] == f"more than {yamltext.MAX_NODES} values, aliases expanded"


def test_depth_is_bounded_also_through_aliases() -> None:
    deep = yamltext.MAX_DEPTH
    assert problem("[" * 100_000)[0] == f"nested deeper than {deep} levels"
    half = deep // 2 + 1
    text = f"a: &a {'[' * half}{']' * half}\nb: {'[' * half}*a{']' * half}"
    assert problem(text)[0] == f"nested deeper than {deep} levels"


def test_size_and_number_are_bounded() -> None:
    assert "characters" in problem("#" * (yamltext.MAX_CHARACTERS + 1))[0]
    found = yamltext.read("---\na: 1\n" * (yamltext.MAX_DOCUMENTS + 5))
    assert "documents" in found[-1].problems[0].reason


def test_json_is_yaml() -> None:
    assert value('{"a": [1, true, null, "x\\u00e9"]}') == {"a": [1, True, None, "xé"]}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc :#-'\"\n{}[]", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1), PLAIN, min_size=1))
def test_what_pyyaml_writes_is_read_back(raw: dict[str, Any]) -> None:
    assert value(yaml.safe_dump(raw)) == raw


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,?\n\t ~<0", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    for found in yamltext.read(text):
        assert all(one.line > 0 and one.reason for one in found.problems)
