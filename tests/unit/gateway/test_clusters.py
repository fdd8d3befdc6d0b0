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
