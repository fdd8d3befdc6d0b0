"""Compiling judged by its answers alone: time decides nothing here."""

from __future__ import annotations

import pytest

from mlship.server.accelerate import attempt, verdict


@pytest.fixture(autouse=True)
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled is always faster, and the proof has all the time it needs."""
    monkeypatch.setattr(attempt, "_gains", lambda *_: dict.fromkeys(verdict.SIZES, 9.0))
    monkeypatch.setattr(attempt, "PROOF_SECONDS", 60.0)
