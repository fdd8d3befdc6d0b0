from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from mlship.storage import limits


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (200 * limits.GIB, "200.0 GiB"),
        (1 << 41, "2.0 TiB"),
    ],
)
def test_sizes_for_people(size: int, shown: str) -> None:
    assert limits.show(size) == shown


def test_the_documented_limits_are_the_real_ones() -> None:
    page = (pathlib.Path(__file__).parents[3] / "docs" / "storage.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    real = {name: getattr(limits.Limits(), name) for name in told}
    assert real == {
        "max_bytes": 200 * limits.GIB,
        "max_files": 100_000,
        "max_ratio": 200,
        "total_seconds": 6 * 3600,
        "attempts": 5,
        "max_redirects": 5,
    }
    assert told == {
        "max_bytes": "200 GiB",
        "max_files": "100,000",
        "max_ratio": "200",
        "total_seconds": "6 h",
        "attempts": "5",
        "max_redirects": "5",
    }
    assert set(told) <= {field.name for field in dataclasses.fields(limits.Limits)}
