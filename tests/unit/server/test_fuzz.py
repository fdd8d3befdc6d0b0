from __future__ import annotations

from typing import Any

import mutations


def test_malformed_requests_are_never_the_servers_fault(server: Any) -> None:
    """A fast part of ``tests/conformance/test_fuzz_server.py``."""
    names = ("iris", "adder", "echo")
    examples = {name: server.http.get(f"/v2/models/{name}/example").json() for name in names}
    codes: dict[int, int] = {}
    for case in mutations.cases(7, 700, examples=examples):
        answer = server.http.post(case.path, content=case.body, headers=case.headers)
        assert answer.status_code < 500, (case, answer.text)
        if answer.status_code != 200:
            assert isinstance(answer.json()["error"], str), case
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
    assert {200, 400, 404, 415} <= codes.keys(), codes
    assert server.ready()
