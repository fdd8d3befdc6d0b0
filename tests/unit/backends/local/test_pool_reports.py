"""A report comes from a program that runs users' models: what is none of it is no fact."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.backends.local import pool_reports
from mlship.plan import observed, pool

REPLICA = observed.ReplicaId(pool.key_of("default", "sklearn"), "aaaa", 0)


def read(*models: dict) -> pool_reports.Report | None:
    return pool_reports.read(json.dumps({"models": list(models)}).encode(), REPLICA)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"loaded": True}, observed.Held.LOADED),
        ({"loaded": True, "failing": "x"}, observed.Held.LOADED),
        ({"loading": True}, observed.Held.LOADING),
        ({"failing": "x"}, observed.Held.FAILED),
        ({"quarantined": "x"}, observed.Held.FAILED),
        ({}, observed.Held.STANDBY),
    ],
)
def test_states(said, state):
    made = read({"name": "iris", **said})
    assert made is not None
    assert made.placements["iris"].state is state


def test_a_reason_is_one_line_of_bounded_length():
    made = read({"name": "iris", "failing": "a\nb " * 10_000})
    assert made is not None
    assert len(made.placements["iris"].reason) <= 600
    assert "\n" not in made.placements["iris"].reason


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"models": 3}', b'{"models": [{}]}', b'{"models": [3]}', b"null"])
def test_what_is_no_report_is_none(body):
    assert pool_reports.read(body, REPLICA) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "hits", "bytes"]), inner),
    max_leaves=10,
)


@given(_JSON)
def test_nothing_raises(value):
    pool_reports.read(json.dumps({"models": value}).encode(), REPLICA)
