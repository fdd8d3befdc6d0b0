from __future__ import annotations

import pytest

from mlship import errors
from mlship.api import quantity


@pytest.mark.parametrize(("text", "cores"), [("500m", 0.5), (2, 2.0), ("1.5", 1.5), ("0.1", 0.1), ("100u", 1e-4)])
def test_cores(text: str | int, cores: float) -> None:
    assert quantity.cores(text) == pytest.approx(cores)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1Ki", 1024), ("2Gi", 2 * 2**30), ("1M", 10**6), ("1e3", 1000), ("1E", 10**18), ("1.5Ki", 1536), ("1m", 1)],
)
def test_bytes(text: str, size: int) -> None:
    assert quantity.size(text) == size


@pytest.mark.parametrize("text", ["", "1 Gi", "1GB", "x", "1e99999999999"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(errors.SpecError):
        quantity.number(text)
