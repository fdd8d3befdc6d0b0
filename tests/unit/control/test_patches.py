"""Merge Patch and JSON Patch: the examples of their RFCs, and every way an operation can fail."""

from __future__ import annotations

import copy

import pytest

from mlship import errors
from mlship.control import patches

# RFC 7396, appendix A.
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "expected"), MERGES)
def test_merge(target, patch, expected):
    before = copy.deepcopy((target, patch))
    assert patches.merge(target, patch) == expected
    assert (target, patch) == before


GOOD = [
    ({"a": 1}, [{"op": "add", "path": "/b", "value": [2]}], {"a": 1, "b": [2]}),
    ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
    ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
    ({"a": 1}, [{"op": "add", "path": "", "value": 5}], 5),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
    ({"a": {"b": 1}}, [{"op": "replace", "path": "/a/b", "value": 2}], {"a": {"b": 2}}),
    ({"a": [1, 2, 3]}, [{"op": "replace", "path": "/a/1", "value": 9}], {"a": [1, 9, 3]}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"z": 1}}], {"z": 1}),
    ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
    ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": {"x": 1}, "b": {"x": 1}}),
    (
        {"a/b": 1, "m~n": 2},
        [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
        {"a/b": 1},
    ),
]


@pytest.mark.parametrize(("target", "operations", "expected"), GOOD)
def test_json_patch(target, operations, expected):
    before = copy.deepcopy(target)
    assert patches.apply(target, operations) == expected
    assert target == before


BAD = [
    ([{"op": "test", "path": "/a", "value": 2}], "another one"),
    ([{"op": "test", "path": "/flag", "value": 1}], "another one"),
    ([{"op": "remove", "path": "/none"}], "'none' is missing|none is missing"),
    ([{"op": "remove", "path": ""}], "whole document"),
    ([{"op": "replace", "path": "/none", "value": 1}], "none is missing"),
    ([{"op": "add", "path": "/list/9", "value": 1}], "beyond the end"),
    ([{"op": "add", "path": "/list/01", "value": 1}], "no list index"),
    ([{"op": "remove", "path": "/list/-"}], "no list index"),
    ([{"op": "add", "path": "/a/b", "value": 1}], "neither an object nor a list"),
    ([{"op": "add", "path": "a", "value": 1}], "no JSON pointer"),
    ([{"op": "add", "path": "/b"}], "value is missing"),
    ([{"op": "copy", "path": "/b"}], "from is missing"),
    ([{"op": "move", "from": "/deep", "path": "/deep/er"}], "into itself"),
    ([{"op": "explode", "path": "/a"}], "op 'explode'"),
    (["nonsense"], "not an object"),
    ({"op": "add"}, "list of operations"),
    ([{"op": "test", "path": "/a/b/c", "value": 1}], "nothing below"),
]


@pytest.mark.parametrize(("operations", "words"), BAD)
def test_what_cannot_be_applied(operations, words):
    target = {"a": 1, "flag": True, "list": [1], "deep": {"er": 1}}
    before = copy.deepcopy(target)
    with pytest.raises(errors.SpecError, match=words):
        patches.apply(target, operations)
    assert target == before
