from __future__ import annotations

import pytest

from mlship.storage import limits


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (200 * limits.GIB, "200.0 GiB"),
        (1 << 41, "2.0 TiB"),
    ],
)
def test_sizes_for_people(size: int, shown: str) -> None:
    assert limits.show(size) == shown
