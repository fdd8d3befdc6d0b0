"""Updates in a row and scaling up and down, under load through the real Envoy, cost no request."""

import pytest
from bench import rolling

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(300)]


def test_no_request_fails_in_updates_and_in_scaling():
    found = rolling.measure(updates=5, cycles=2, rate=100.0)
    assert [part["failures"] for part in found.values()] == [[], []]
    for part in found.values():
        assert all(figures["requests"] > 0 for figures in part["requests"].values())
