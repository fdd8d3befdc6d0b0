"""The table of all routes: who owns a bare name, and what the default is."""

from __future__ import annotations

import itertools

from mlship.plan import observed, routes


def route(namespace: str, name: str, created: str = "") -> routes.ServiceRoute:
    return routes.ServiceRoute(observed.ServiceKey(namespace, name), created=created, timeout=60.0)


def test_the_older_service_owns_a_bare_name() -> None:
    young, old = route("a", "iris", "2026-02-01"), route("b", "iris", "2026-01-01")
    assert routes.assemble([young, old]).names == (("iris", old.service),)


def test_at_the_same_age_the_first_by_name_owns_it() -> None:
    found = [route("b", "iris", "x"), route("a", "iris", "x")]
    assert routes.assemble(found).names == (("iris", observed.ServiceKey("a", "iris")),)


def test_only_a_lone_service_is_the_default() -> None:
    one, two = route("a", "iris"), route("a", "wine")
    assert routes.assemble([one]).default == one.service
    assert routes.assemble([one, two]).default is None
    assert routes.assemble([]) == routes.RouteTable()


def test_the_order_of_routes_does_not_matter() -> None:
    found = [route("a", "iris", "3"), route("b", "iris", "1"), route("c", "wine", "2")]
    assert len({routes.assemble(order) for order in itertools.permutations(found)}) == 1
