"""Envoy's text -> what each service's clusters have counted."""

from __future__ import annotations

import re

from mlship.gateway import clusters, stats
from mlship.plan import observed

IRIS, OTHER = observed.ServiceKey("default", "iris"), observed.ServiceKey("team-a", "iris")
TEXT = """\
cluster.default/iris/abcd1234/grpc.upstream_rq_active: 0
cluster.default/iris/abcd1234/grpc.upstream_rq_pending_active: 0
cluster.default/iris/abcd1234/grpc.upstream_rq_total: 0
cluster.default/iris/abcd1234/http.upstream_rq_active: 2
cluster.default/iris/abcd1234/http.upstream_rq_pending_active: 1
cluster.default/iris/abcd1234/http.upstream_rq_total: 17
cluster.default/iris/ffff0000/http.upstream_rq_total: 4
cluster.team-a/iris/abcd1234/http.upstream_rq_total: 9
cluster.default/iris/abcd1234/grpc.upstream_rq_time: No recorded values
cluster.default/iris/abcd1234/http.upstream_rq_time:
  totals=20,1:16, 21,1:1
  intervals=20,1:3
  summary=P0(nan,20.05) P25(nan,20.29)
cluster.team-a/iris/abcd1234/http.upstream_rq_time:
  totals=1.1,0.1:3, nonsense
  intervals=
"""


def test_a_service_has_its_clusters_of_every_revision_and_protocol() -> None:
    found = stats.parse(TEXT)
    assert set(found) == {IRIS, OTHER}
    assert sorted(found[IRIS]) == [
        "default/iris/abcd1234/grpc",
        "default/iris/abcd1234/http",
        "default/iris/ffff0000/http",
    ]
    http = found[IRIS]["default/iris/abcd1234/http"]
    assert (http.active, http.total) == (3, 17)
    assert http.bins == {(20.0, 1.0): 16, (21.0, 1.0): 1}
    assert found[IRIS]["default/iris/abcd1234/grpc"].bins == {}
    assert found[OTHER]["team-a/iris/abcd1234/http"].bins == {(1.1, 0.1): 3}


def test_a_cluster_that_was_never_asked_has_counted_nothing() -> None:
    found = stats.parse("cluster.default/iris/abcd1234/http.membership_total: 1\n")
    assert found == {IRIS: {"default/iris/abcd1234/http": stats.Cluster()}}


def test_what_is_not_in_the_form_is_left_out() -> None:
    assert stats.parse("") == {}
    assert stats.parse("cluster.x.upstream_rq_total: 3\nserver.uptime: 5\n  totals=1,1:1\n") == {}
    assert stats.parse("cluster.default/iris/abcd1234/http.upstream_rq_active: 3\n") == {}


def test_the_pattern_finds_the_clusters_that_are_rendered_and_no_others() -> None:
    name = clusters.name(IRIS, "abcd1234", "http")
    pattern = re.compile(stats.pattern([IRIS]))
    assert pattern.search(f"cluster.{name}.{stats.TOTAL}")
    assert not pattern.search(f"cluster.{clusters.name(OTHER, 'abcd1234', 'http')}.{stats.TOTAL}")
    assert not pattern.search(f"cluster.{name}.upstream_rq_total_extra")
    many = [observed.ServiceKey("default", f"s{number}") for number in range(stats.MOST_NAMED + 1)]
    assert re.compile(stats.pattern(many)).search(f"cluster.{name}.{stats.TIME}")
    assert len(stats.pattern(many)) < 200
