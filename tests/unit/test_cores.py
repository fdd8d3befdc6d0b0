import math
import os

import pytest

from mlship import cores


@pytest.fixture
def cgroups(tmp_path):
    def make(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "cgroup", tmp_path / "own"

    return make


def test_nothing_that_limits_is_no_limit(cgroups):
    assert cores.quota(*cgroups("0::/\n")) == math.inf
    assert cores.quota(*cgroups("0::/a\n", **{"a/cpu.max": "max 100000\n"})) == math.inf


def test_the_tightest_of_the_cgroups_above_counts(cgroups):
    places = cgroups("0::/a/b\n", **{"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "300000 100000\n"})
    assert cores.quota(*places) == 1.5


def test_the_first_version_of_cgroups_is_read_too(cgroups):
    files = {"cpu/box/cpu.cfs_quota_us": "250000\n", "cpu/box/cpu.cfs_period_us": "100000\n"}
    assert cores.quota(*cgroups("5:cpuset:/other\n4:cpu,cpuacct:/box\n", **files)) == 2.5
    files = {"cpu/box/cpu.cfs_quota_us": "-1\n", "cpu/box/cpu.cfs_period_us": "100000\n"}
    assert cores.quota(*cgroups("4:cpu:/box\n", **files)) == math.inf


def test_a_file_that_makes_no_sense_limits_nothing(cgroups):
    assert cores.quota(*cgroups("nonsense\n", **{"cpu.max": "many\n"})) == math.inf


def test_what_is_available_is_the_lesser_of_affinity_and_quota(cgroups, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert cores.available(*cgroups("0::/\n")) == 6
    assert cores.available(*cgroups("0::/\n", **{"cpu.max": "150000 100000\n"})) == 2
    assert cores.available(*cgroups("0::/\n", **{"cpu.max": "5000 100000\n"})) == 1


def test_without_affinities_the_machine_counts(cgroups, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.available(*cgroups("0::/\n")) == 5


@pytest.mark.parametrize(("machine", "replicas", "each"), [(8, 1, 8), (8, 3, 2), (2, 5, 1), (4, 0, 4)])
def test_a_machine_is_shared_evenly_and_nobody_gets_nothing(machine, replicas, each):
    assert cores.share(machine, replicas) == each
