from __future__ import annotations

from bench import profile

STACKS = [
    "run (a.py:1);infer (b.py:10) 6",
    "run (a.py:1);infer (b.py:12) 2",
    "run (a.py:2) 1",
    "again (c.py:1);again (c.py:1) 1",
    "work (d.py:1);Workers._work (mlship/server/worker.py:69) 50",
    "",
]


def test_samples_are_summed_by_function_whatever_the_line() -> None:
    total, found = profile.summed(STACKS)
    assert total == 10
    assert found[0] == ("infer (b.py)", 0.8, 0.8)
    assert ("run (a.py)", 0.1, 0.9) in found
    assert ("again (c.py)", 0.1, 0.1) in found, "a function that calls itself counts once"


def test_the_page_has_a_row_for_each_function() -> None:
    page = profile.page(64, 1234.5, STACKS)
    assert page.startswith("### 64 clients: 1234 requests/s")
    assert "| `infer (b.py)` | 80.0% | 80.0% |" in page
