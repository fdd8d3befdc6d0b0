from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mlship import errors
from mlship.server.rest import exchange


def request(messages: list[dict[str, Any]], **headers: str) -> exchange.Request:
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    raw = {key.replace("_", "-").encode(): value.encode() for key, value in headers.items()}
    return exchange.Request(method="POST", headers=raw, names={}, receive=receive)


def chunk(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def read(made: exchange.Request, *, limit: int = 100, seconds: float = 30.0) -> bytes:
    return await exchange.read_body(made, limit=limit, deadline=asyncio.get_running_loop().time() + seconds)


async def test_chunks_are_joined_and_counted() -> None:
    made = request([chunk(b"ab", more=True), chunk(b"", more=True), chunk(b"c")])
    assert await read(made) == b"abc"
    assert made.received == 3


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(errors.SpecError) as caught:
        await read(request([], content_length="101"))
    assert caught.value.reason is errors.Reason.TOO_LARGE


async def test_a_body_that_grows_over_the_limit_is_refused() -> None:
    with pytest.raises(errors.SpecError, match="at least 120 bytes, this server takes 100"):
        await read(request([chunk(b"x" * 60, more=True), chunk(b"x" * 60, more=True)]))


async def test_a_client_that_has_gone_is_no_request() -> None:
    with pytest.raises(exchange.Hangup):
        await read(request([chunk(b"ab", more=True), {"type": "http.disconnect"}]))


async def test_a_body_that_does_not_come_is_408() -> None:
    with pytest.raises(exchange.Refused) as caught:
        await read(request([chunk(b"a", more=True)]), seconds=0.01)
    assert caught.value.status == 408


def test_the_shortest_timeout_counts() -> None:
    assert request([]).timeout is None
    assert request([], x_request_timeout="2.5").timeout == 2.5
    both = request([], x_request_timeout="2.5", x_envoy_expected_rq_timeout_ms="1500")
    assert both.timeout == 1.5


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.SpecError("no"), 400, "Invalid"),
        (errors.SpecError("no", reason=errors.Reason.NOT_FOUND), 404, "NotFound"),
        (errors.NotReady("no"), 503, "NotReady"),
        (errors.Overloaded("no", reason=errors.Reason.DEADLINE), 504, "DeadlineExceeded"),
        (errors.ModelError("no"), 500, "ModelFailed"),
        (exchange.Refused("no", status=415), 415, "Invalid"),
        (ValueError("secret inside"), 500, "BackendFailed"),
    ],
)
def test_every_error_has_a_status_and_the_wire_form(error: Exception, status: int, code: str) -> None:
    response = exchange.failure(error)
    found = json.loads(response.body)
    assert (response.status, found["code"]) == (status, code)
    assert isinstance(found["error"], str)
    assert b"secret" not in response.body


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    response = exchange.failure(errors.Overloaded("full", retry_after=1.2))
    assert response.headers == ((b"retry-after", b"2"),)


async def test_the_answer_has_its_length_and_the_requests_id() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await exchange.respond(send, exchange.json({"a": 1}), request_id="r")
    assert sent[0]["headers"] == [
        (b"content-type", b"application/json"),
        (b"content-length", b"7"),
        (b"x-request-id", b"r"),
    ]
    assert sent[1]["body"] == b'{"a":1}'
