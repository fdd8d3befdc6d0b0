"""Clusters hold endpoints, exist while they have some, and are read back as they were."""

from mlship.gateway import clusters
from mlship.plan import observed

IRIS = observed.ServiceKey("default", "iris")
UNIX = observed.Endpoint("unix:/run/a.h", "unix:/run/a.g")
MORE = observed.Endpoint("unix:/run/b.h", "unix:/run/b.g")
PORT = observed.Endpoint("127.0.0.1:9000")


def test_a_revision_is_two_clusters_and_none_without_endpoints():
    assert list(clusters.of(IRIS, "r", [UNIX])) == ["default/iris/r/http", "default/iris/r/grpc"]
    assert list(clusters.of(IRIS, "r", [PORT])) == ["default/iris/r/http"]
    assert clusters.of(IRIS, "r", []) == {}


def test_what_was_rendered_is_read_back():
    rendered = [*clusters.of(IRIS, "old", [UNIX, MORE]).values(), *clusters.of(IRIS, "new", [PORT]).values()]
    assert clusters.read(rendered) == {IRIS: {"old": (UNIX, MORE), "new": (PORT,)}}


def test_the_revisions_of_a_pool_are_known_when_they_are_read_back():
    rendered = [
        *clusters.of(IRIS, "old", [UNIX, MORE], hashed=True).values(),
        *clusters.of(IRIS, "new", [UNIX]).values(),
    ]
    assert [one["name"].rpartition("/")[2] for one in rendered] == [
        "http",
        "http-hash",
        "grpc",
        "grpc-hash",
        "http",
        "grpc",
    ]
    assert clusters.read(rendered) == {IRIS: {"old": (UNIX, MORE), "new": (UNIX,)}}
    assert clusters.hashed(rendered) == {IRIS: {"old"}}


def test_a_cluster_that_holds_no_endpoints_is_left_out():
    assert clusters.read([{"name": "default/iris/r/http", "type": "EDS"}]) == {}
