from __future__ import annotations

import pytest

from mlship.server import trace

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize("header", [f"00-{ID}-{PARENT}-01", f"cc-{ID}-{PARENT}-01-more"])
def test_the_trace_id_of_a_valid_header(header: str) -> None:
    assert trace.trace_id(header) == ID


@pytest.mark.parametrize(
    "header",
    [
        "",
        "rubbish",
        f"ff-{ID}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{PARENT}-01",
        f"00-{ID}-{PARENT}-01-more",
        f"00-{ID}-{PARENT}-01\n",
    ],
)
def test_an_invalid_header_is_as_good_as_none(header: str) -> None:
    assert trace.trace_id(header) == ""
