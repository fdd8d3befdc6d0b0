"""The table of ``mlship top``."""

from __future__ import annotations

import pytest

from mlship.cli import busy

ROW = {
    "namespace": "default", "name": "iris", "ready": 2, "wanted": 3, "min": 0, "max": 5, "requestsPerSecond": 123.4,
    "concurrency": 7.25, "p99Seconds": 0.0314, "cpuCores": 1.5, "memoryBytes": 3 * 2**29, "waiting": 4,
    "decision": "3 replicas: so it is", "decidedAt": None,
}  # fmt: skip


def test_a_line_for_people() -> None:
    assert busy.row(ROW) == (
        "default", "iris", "2/3", "0-5", "123", "7.2", "31 ms", "1.5", "1.5 Gi", "4", "3 replicas: so it is",
    )  # fmt: skip


def test_what_is_not_known_is_a_dash_and_a_fixed_number_no_range() -> None:
    unknown = dict.fromkeys(("requestsPerSecond", "concurrency", "p99Seconds", "cpuCores", "memoryBytes"))
    line = busy.row({**ROW, **unknown, "min": 2, "max": 2, "decision": ""})
    assert line == ("default", "iris", "2/3", "2", "-", "-", "-", "-", "-", "4", "-")


@pytest.mark.parametrize(
    ("change", "column", "shown"),
    [
        ({"p99Seconds": 12.4}, 6, "12 s"),
        ({"memoryBytes": 5 * 2**20}, 8, "5 Mi"),
        ({"memoryBytes": 2**12}, 8, "4 Ki"),
        ({"requestsPerSecond": 0.0}, 4, "0"),
        ({"requestsPerSecond": 45.67}, 4, "45.7"),
    ],
)
def test_units(change: dict[str, float], column: int, shown: str) -> None:
    assert busy.row({**ROW, **change})[column] == shown
