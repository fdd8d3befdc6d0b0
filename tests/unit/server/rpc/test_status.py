from __future__ import annotations

import hpack
import pytest

from mlship import errors
from mlship.server.rpc import status


def read(block: bytes) -> dict[str, str]:
    return dict(hpack.Decoder().decode(block))


@pytest.mark.parametrize("reason", list(errors.Reason))
def test_every_reason_has_a_code(reason: errors.Reason) -> None:
    found = read(status.end(errors.SpecError("x", reason=reason)))
    assert (status.Code(int(found["grpc-status"])).name, found["mlship-reason"]) == (reason.grpc_code, reason.value)


def test_a_message_is_one_line_and_escaped() -> None:
    found = read(status.end(errors.SpecError("50 % of\n\u00fc~", hint="Less.")))
    assert found["grpc-message"] == "50 %25 of %C3%BC~ Less."


def test_when_to_come_again_is_said_in_milliseconds() -> None:
    assert read(status.end(errors.Overloaded("x", retry_after=0.25)))["grpc-retry-pushback-ms"] == "250"


def test_long_messages_are_cut_to_what_clients_take() -> None:
    assert len(read(status.end(errors.SpecError("x" * 100_000)))["grpc-message"]) < 8000


def test_what_is_not_ours_says_nothing_of_itself() -> None:
    found = read(status.end(RuntimeError("secret")))
    assert (found["grpc-status"], "secret" in found["grpc-message"]) == ("13", False)


def test_grpcs_own_failures_carry_their_fields() -> None:
    found = read(status.end(status.Failure(status.Code.UNIMPLEMENTED, "no", status.ACCEPTED)))
    assert (found["grpc-status"], found["grpc-accept-encoding"]) == ("12", "identity, deflate, gzip")


def test_the_head_of_an_answer() -> None:
    assert read(status.HEAD) == {":status": "200", "content-type": "application/grpc"}
    assert read(status.http(415)) == {":status": "415"}
