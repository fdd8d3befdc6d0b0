"""Printer columns: the JSONPath they use, ages, and the shape of a Table."""

from __future__ import annotations

import pytest

from mlship.control import resources, tables

BODY = {
    "metadata": {"name": "iris", "creationTimestamp": "1970-01-01T00:00:10Z", "resourceVersion": "4"},
    "status": {
        "conditions": [{"type": "A", "status": "x"}, {"type": "Ready", "status": "True"}],
        "traffic": [{"latestRevision": True, "percent": 90}, {"tag": "prev", "percent": 10}],
        "none": None,
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["iris"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type == "Ready")].status', ["True"]),
        (".status.traffic[?(@.latestRevision=='true')].percent", [90]),
        (".status.traffic[*].percent", [90, 10]),
        (".status.traffic[1].tag", ["prev"]),
        (".status.traffic[9].tag", []),
        (".status.missing.deeper", []),
        (".status.none", []),
        (".metadata.name[0]", []),
        ("$not a path", []),
    ],
)
def test_paths(path, found):
    assert tables.values(path, BODY) == found


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3600, "60m"),
        (4 * 3600, "4h"),
        (90 * 3600, "3d"),
    ],
)
def test_ages(seconds, shown):
    assert tables.age(seconds) == shown


def test_a_table():
    resource = resources.Resource(
        "g", "v1", "Thing", "things", "thing",
        columns=(
            resources.Column("Percent", ".status.traffic[0].percent", type="integer"),
            resources.Column("All", ".status.traffic[*].percent"),
            resources.Column("Age", ".metadata.creationTimestamp", type="date"),
            resources.Column("Wide", ".status.missing", priority=1),
        ),
    )  # fmt: skip
    made = tables.table(resource, [BODY], version="7", now=70.0, more="token")
    assert made["metadata"] == {"resourceVersion": "7", "continue": "token"}
    assert [(one["name"], one["priority"]) for one in made["columnDefinitions"]] == [
        ("Name", 0), ("Percent", 0), ("All", 0), ("Age", 0), ("Wide", 1),
    ]  # fmt: skip
    assert made["rows"][0]["cells"] == ["iris", 90, "90,10", "60s", ""]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", True),
        ("application/json, application/json;as=Table", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_who_wants_one(accept, wanted):
    assert tables.wanted(accept) is wanted
