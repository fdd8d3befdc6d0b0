"""Metrics of models that are loaded on use, read when scraped: of those ever used, not of all that are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import core

from mlship.server.page import Page

_COUNTERS: tuple[tuple[str, str, Callable[[Page], float]], ...] = (
    ("mlship_model_loads", "Loads that succeeded.", lambda page: page.loads),
    ("mlship_model_load_seconds", "Time those loads took together.", lambda page: page.loading_seconds),
    ("mlship_model_evictions", "Times it left memory for others.", lambda page: page.evictions),
    ("mlship_model_hits", "Requests that found it loaded.", lambda page: page.hits),
    ("mlship_model_misses", "Requests that waited for it to be loaded.", lambda page: page.misses),
)


def families(pages: Iterable[Page]) -> Iterator[core.Metric]:
    """The families, a sample for each page."""
    kept = list(pages)
    for name, documentation, read in _COUNTERS:
        counter = core.CounterMetricFamily(name, documentation, labels=["model", "version"])
        for page in kept:
            counter.add_metric(page.key, read(page))
        yield counter
    gauge = core.GaugeMetricFamily("mlship_model_bytes", "Memory it takes while loaded.", labels=["model", "version"])
    for page in kept:
        gauge.add_metric(page.key, page.size)
    yield gauge
