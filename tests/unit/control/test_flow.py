"""Requests at a time, requests/s and latency out of counters: both estimates against traffic that is known."""

from __future__ import annotations

import random

import pytest

from mlship.control import flow
from mlship.gateway import stats

NAME = "default/iris/abcd1234/http"


class Envoy:
    """Counts requests whose begin and end are known, as Envoy does: whole milliseconds, bins of two digits."""

    def __init__(self, requests: list[tuple[float, float]]) -> None:
        self.requests = requests

    def at(self, now: float) -> dict[str, stats.Cluster]:
        begun = [one for one in self.requests if one[0] <= now]
        active = sum(end > now for _, end in begun)
        bins: dict[stats.Bin, int] = {}
        for start, end in begun:
            if end <= now:
                ms = int((end - start) * 1000)
                width = 1.0 if ms < 100 else 10.0 if ms < 1000 else 100.0
                place = (ms // width * width, width)
                bins[place] = bins.get(place, 0) + 1
        return {NAME: stats.Cluster(active=active, total=len(begun), bins=bins)}


def busy(rate: float, seconds: float, until: float = 60.0) -> Envoy:
    chance = random.Random(1)
    starts, now = [], 0.0
    while now < until:
        now += chance.expovariate(rate)
        starts.append(now)
    return Envoy([(start, start + chance.uniform(0.5, 1.5) * seconds) for start in starts])


@pytest.mark.parametrize(
    ("rate", "seconds"), [(100.0, 0.01), (40.0, 0.1), (20.0, 0.5), (2.0, 5.0), (400.0, 0.004), (3.0, 0.05)]
)
@pytest.mark.parametrize("every", [0.25, 0.5, 1.0])
def test_concurrency_is_the_rate_times_the_duration(rate: float, seconds: float, every: float) -> None:
    envoy, found = busy(rate, seconds), flow.Flow(60)
    for step in range(int(60 / every)):
        found.add(step * every, envoy.at(step * every))
    average = found.concurrency.average(59.9, 40)
    assert average is not None
    assert average == pytest.approx(rate * seconds, rel=0.35, abs=0.1)
    assert found.rate.average(59.9, 40) == pytest.approx(rate, rel=0.25)


def test_a_burst_of_long_requests_shows_at_once() -> None:
    envoy, found = Envoy([(10.1, 40.0)] * 20), flow.Flow(60)
    for step in range(44):
        found.add(step * 0.25, envoy.at(step * 0.25))
    assert found.instant == 20.0
    assert found.newest_rate == 0.0


def test_callers_at_the_gate_count() -> None:
    found = flow.Flow(60)
    for second in range(5):
        found.add(float(second), {NAME: stats.Cluster()}, waiting=7)
    assert found.concurrency.average(4.0, 3) == 7.0


def test_a_first_reading_and_one_after_a_pause_say_nothing_of_before() -> None:
    found = flow.Flow(60)
    found.add(0.0, {NAME: stats.Cluster(total=1000)})
    assert found.rate.average(0.0, 10) is None
    found.add(1.0, {NAME: stats.Cluster(total=1010)})
    found.pause()
    found.add(30.0, {NAME: stats.Cluster(total=9000)})
    assert found.rate.maximum(30.0, 60) == 10.0
    found.add(31.0, {NAME: stats.Cluster(total=9005)})
    assert found.newest_rate == 5.0


def test_an_envoy_that_was_started_anew_counts_from_nothing() -> None:
    found = flow.Flow(60)
    found.add(0.0, {NAME: stats.Cluster(total=1000, bins={(5.0, 1.0): 1000})})
    found.add(1.0, {NAME: stats.Cluster(total=20, bins={(5.0, 1.0): 20})})
    assert found.newest_rate == 20.0
    found.add(2.0, {NAME: stats.Cluster(total=20), "default/iris/new/http": stats.Cluster(total=3)})
    assert found.newest_rate == 3.0


def test_latency_is_read_from_the_bins_of_the_window_alone() -> None:
    found = flow.Flow(60)
    found.add(0.0, {NAME: stats.Cluster()})
    found.add(1.0, {NAME: stats.Cluster(total=100, bins={(10.0, 1.0): 98, (500.0, 10.0): 2})})
    slow = found.latency(1.0, quantile=0.99, seconds=60)
    assert slow is not None
    assert 0.5 <= slow <= 0.51
    assert found.latency(1.0, quantile=0.5, seconds=60) == pytest.approx(0.0105, abs=0.001)
    assert found.latency(70.0, quantile=0.99, seconds=60) is None
