"""The real scaler through days of traffic in virtual time: what it costs and whom it lets wait, within bounds.

The bounds are those of the constants as they are, with some room. A change of a constant that breaks one shows what it
trades; with ``-s`` the reports are printed.
"""

from __future__ import annotations

import dataclasses

import pytest

from mlship.scale import policy
from simulation import traffic, world

LOAD = policy.Metric("concurrency", policy.Kind.CONCURRENCY, 4)
WARM = policy.Policy(min_replicas=1, max_replicas=50, metrics=(LOAD,))
ZERO = dataclasses.replace(WARM, min_replicas=0)
HOUR = 3600


def life(name: str, service: world.Service, seconds: int = HOUR) -> world.Report:
    report = world.run(service, seconds=seconds)
    print(f"{name}: {report}")
    return report


def shaped(rate: traffic.Rate, made: policy.Policy = ZERO, *, seconds: int = HOUR) -> world.Service:
    return world.Service(made, traffic.arrivals(rate, seconds=seconds, seed=7))


def share(part: int, report: world.Report) -> float:
    return part / report.requests


def test_a_steady_load_gets_what_it_needs_and_keeps_it() -> None:
    report = life("steady", shaped(traffic.steady(200.0)))
    assert report.failed == 0
    assert share(report.late, report) < 0.001
    # 20 requests in work at 2.8 for each replica are 7.14 replicas.
    assert 7.0 <= report.mean <= 9.0
    assert report.flaps == 0


def test_a_day_is_followed() -> None:
    day = 4 * HOUR
    report = life("diurnal", shaped(traffic.diurnal(200.0, day=day), seconds=day), day)
    assert report.failed == 0
    assert share(report.late, report) < 0.001
    assert report.mean < 8.5
    assert 14 <= report.most <= 16
    assert report.flaps <= 2


def test_a_flash_crowd_waits_for_seconds_only() -> None:
    crowd = traffic.flash_crowd(5.0, peak=400.0, at=600)
    report = life("flash crowd", shaped(crowd, WARM))
    assert report.failed == 0
    assert share(report.late, report) < 0.001
    assert report.mean < 3.2
    assert report.replicas_at(HOUR - 1) == 1


def test_slow_starts_cost_a_flash_crowd_more_and_lose_nobody() -> None:
    crowd = traffic.flash_crowd(5.0, peak=400.0, at=600)
    report = life("flash crowd, slow starts", dataclasses.replace(shaped(crowd, WARM), start=10))
    assert report.failed == 0
    assert share(report.late, report) < 0.025
    assert report.mean < 4.5


def test_sparse_requests_are_all_answered_and_little_runs_for_them() -> None:
    service = world.Service(ZERO, traffic.sparse(1 / 300, seconds=24 * HOUR, seed=7))
    report = life("sparse", service, 24 * HOUR)
    assert (report.failed, report.late) == (0, 0)
    assert report.mean < 0.21
    # At rest nothing is decided: a look every second would have been 86,400.
    assert report.decisions < 22_000


def test_a_job_again_and_again_does_not_make_it_flap() -> None:
    report = life("on and off", shaped(traffic.on_off(100.0, on=30, off=90)))
    assert report.failed == 0
    assert share(report.late, report) < 0.025
    assert report.mean < 11.5
    # Once for each job, which finds it asleep: the pause is longer than the window.
    assert report.flaps <= 30
    job = life("on and off, kept", shaped(traffic.on_off(100.0, on=30, off=90), dataclasses.replace(ZERO, delay=120.0)))
    assert job.late == 0
    assert job.flaps <= 8
    assert job.mean < 7.5


@pytest.mark.parametrize("lost", ["restarts", "losses"])
def test_a_control_plane_that_comes_back_shrinks_nothing_for_a_window(lost: str) -> None:
    service = shaped(traffic.flash_crowd(5.0, peak=400.0, at=100, lasts=100))
    # In the middle of the decline, when it would have shrunk.
    service = dataclasses.replace(service, **{lost: (300,)})
    report = world.run(service, seconds=600)
    before = report.replicas_at(299)
    assert before > 3
    assert all(report.replicas_at(second) >= before for second in range(300, 359))
    assert report.replicas_at(599) < before


def test_rates_are_followed_as_well_as_concurrency() -> None:
    made = dataclasses.replace(ZERO, metrics=(policy.Metric("rps", policy.Kind.RPS, 40),))
    report = life("by rate", shaped(traffic.steady(200.0), made))
    assert report.failed == 0
    assert 7.0 <= report.mean <= 8.2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_services() -> None:
    seconds = HOUR // 4
    fleet = traffic.fleet(10_000, seconds=seconds, seed=7)
    report = world.together(world.run(world.Service(ZERO, one), seconds=seconds) for one in fleet)
    print(f"10,000 services: {report}")
    assert report.failed == 0
    assert share(report.late, report) < 0.001
    # A new service begins with one replica and keeps it for a window: 700 of these on average.
    assert report.mean < 3300
    assert report.flaps < 4300
