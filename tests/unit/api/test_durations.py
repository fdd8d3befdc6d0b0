from __future__ import annotations

import pytest

from mlship import errors
from mlship.api import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("250ms", 0.25), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("10us", 1e-5), ("2h45m0s", 9900)],
)
def test_durations_of_go(text: str, seconds: float) -> None:
    assert durations.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-1s", "1 s", "s", "1d", "1s2", "٣s", "1s" * 200, "inf"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(errors.SpecError):
        durations.seconds(text)
