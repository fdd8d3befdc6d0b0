"""What the handlers of the control API share, put together once by the composition root."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from mlship.backends import base
from mlship.control import facts, introductions, journal, metrics, resources, seams, starts, store


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the control plane behind its API.

    ``closing`` is set when the server goes: streams end by it. ``stop`` asks the program to end, with True also every
    replica and Envoy. ``about`` gives the live part of ``GET /mlship/v1/status``. ``clock`` is Unix seconds.
    """

    kept: store.Store
    catalog: resources.Catalog
    rules: seams.Rules
    planner: seams.Planner
    backend: base.Backend
    facts: facts.Facts
    book: journal.Journal
    meter: metrics.Metrics
    closing: asyncio.Event
    stop: Callable[[bool], None]
    about: Callable[[], dict[str, Any]]
    starts: starts.Starts
    clock: Callable[[], float]
    feeds: seams.Feeds | None = None
    introductions: introductions.Introductions = dataclasses.field(default_factory=introductions.Introductions)
