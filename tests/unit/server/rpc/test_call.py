"""Calls as gRPC has them: by its own client where that can do it, frame by frame where not."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from mlship import errors
from mlship.server.rpc import frames

PATH = "/test.Test/"


@pytest.fixture
async def channel(place: Any) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{place.port}", options=options) as made:
        yield made


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_call_by_grpc_itself(channel: grpc.aio.Channel) -> None:
    assert await channel.unary_unary(PATH + "Echo")(b"hello", timeout=10) == b"hello"
    assert await channel.unary_unary(PATH + "Echo")(b"") == b""


async def test_large_messages_both_ways(channel: grpc.aio.Channel) -> None:
    assert await channel.unary_unary(PATH + "Echo")(b"z" * 2_999_000) == b"z" * 2_999_000
    answer = await channel.unary_unary(PATH + "Large")(b"5000000")
    assert answer == b"head" + b"x" * 5_000_000 + b"tail"


async def test_many_at_once(channel: grpc.aio.Channel) -> None:
    stub = channel.unary_unary(PATH + "Echo")
    assert await asyncio.gather(*(stub(b"%d" % one) for one in range(300))) == [b"%d" % one for one in range(300)]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_taken(channel: grpc.aio.Channel, compression: grpc.Compression) -> None:
    assert await channel.unary_unary(PATH + "Echo")(b"a" * 10_000, compression=compression) == b"a" * 10_000


async def test_a_refusal_has_its_code_its_words_and_when_to_come_again(channel: grpc.aio.Channel) -> None:
    error = await refused(channel.unary_unary(PATH + "Fail")("größer\n\n".encode()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "too much: größer 100 %"
    assert dict(error.trailing_metadata()) == {"mlship-reason": "Overloaded", "grpc-retry-pushback-ms": "1500"}


async def test_a_bug_is_logged_and_not_told(channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
    error = await refused(channel.unary_unary(PATH + "Fail")(b"bug"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")
    assert "call failed" in caplog.text


async def test_an_unknown_method(channel: grpc.aio.Channel) -> None:
    error = await refused(channel.unary_unary("/test.Test/Nothing")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_refused_before_it_has_come(client: Any, place: Any) -> None:
    client.send(client.headers(1), frames.frame(frames.DATA, 0, 1, b"\x00" + (2**31).to_bytes(4, "big") + b"beginning"))
    _, end = await client.answer(1)
    assert end["grpc-status"] == "8"
    assert "--max-body-bytes" in end["grpc-message"]
    assert (await client.until(frames.RST_STREAM)).payload == bytes(4)
    client.send(client.call(3))
    assert (await client.answer(3))[1]["grpc-status"] == "0"


async def test_a_message_that_inflates_over_the_limit_is_refused(client: Any, message: Callable[..., bytes]) -> None:
    client.send(
        client.headers(
            1,
            [
                (":method", "POST"),
                (":path", PATH + "Echo"),
                ("content-type", "application/grpc"),
                ("grpc-encoding", "gzip"),
            ],
        )
    )
    client.send(frames.frame(frames.DATA, 1, 1, message(gzip.compress(b"a" * 4_000_000), compressed=1)))
    assert (await client.answer(1))[1]["grpc-status"] == "8"


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"", "", "13"),
        (b"\x00\x00", "", "13"),
        (b"\x00\x00\x00\x00\x09short", "", "13"),
        (b"\x00\x00\x00\x00\x01long", "", "13"),
        (b"\x02\x00\x00\x00\x01x", "", "13"),
        (b"\x01\x00\x00\x00\x01x", "", "12"),
        (b"\x01\x00\x00\x00\x01x", "snappy", "12"),
        (b"\x01\x00\x00\x00\x01x", "gzip", "3"),
        (b"\x01\x00\x00\x00\x09" + zlib.compress(b"abc")[:9], "deflate", "3"),
    ],
)
async def test_bytes_that_are_no_message(client: Any, body: bytes, encoding: str, status: str) -> None:
    more = [("grpc-encoding", encoding)] if encoding else []
    fields = [(":method", "POST"), (":path", PATH + "Echo"), ("content-type", "application/grpc"), *more]
    client.send(client.headers(1, fields), frames.frame(frames.DATA, frames.END_STREAM, 1, body))
    _, end = await client.answer(1)
    assert end["grpc-status"] == status, end
    client.send(client.headers(3, fields), frames.frame(frames.DATA, 0, 3, body[:2]))
    client.send(frames.frame(frames.DATA, frames.END_STREAM, 3, body[2:]))
    _, end = await client.answer(3)
    assert end["grpc-status"] == status, end


async def test_the_deadline_ends_the_call_here_too(client: Any, place: Any) -> None:
    client.send(client.call(1, path=PATH + "Wait", more=[("grpc-timeout", "20m")]))
    assert (await client.answer(1))[1]["grpc-status"] == "4"
    assert place.cancelled.is_set()
    client.send(client.call(3, path=PATH + "Stream", message=b"wait", more=[("grpc-timeout", "20000u")]))
    assert (await client.answer(3))[1]["grpc-status"] == "4"


@pytest.mark.parametrize("timeout", ["", "5", "m", "-1S", "123456789S", "1.5S"])
async def test_a_deadline_that_is_none(client: Any, timeout: str) -> None:
    client.send(client.call(1, more=[("grpc-timeout", timeout)]))
    _, end = await client.answer(1)
    assert end["grpc-status"] == "3"
    assert "grpc-timeout" in end["grpc-message"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(":method", "POST"), (":path", PATH + "Echo"), ("content-type", "application/json")], "415"),
        ([(":method", "GET"), (":path", PATH + "Echo"), ("content-type", "application/grpc")], "405"),
    ],
)
async def test_what_is_no_grpc_call(client: Any, fields: Any, status: str) -> None:
    client.send(client.headers(1, fields, flags=frames.END_HEADERS | frames.END_STREAM))
    assert (await client.answer(1))[1] == {":status": status}


async def test_a_stream_answers_as_it_goes(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(PATH + "Stream")()
    for word in (b"one", b"two"):
        await call.write(word)
        assert await call.read() == word.upper()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_of_large_messages_waits_for_its_reader(channel: grpc.aio.Channel) -> None:
    async def many() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a" * 700_000

    sizes = [len(answer) async for answer in channel.stream_stream(PATH + "Stream")(many())]
    assert sizes == [700_000] * 20


async def test_a_stream_that_fails_says_what_it_had_before(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(PATH + "Stream")()
    await call.write(b"one")
    assert await call.read() == b"ONE"
    await call.write(b"fail")
    assert (await call.code(), await call.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "as asked")


async def test_an_empty_stream(channel: grpc.aio.Channel) -> None:
    assert [answer async for answer in channel.stream_stream(PATH + "Stream")(iter([]))] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"\x00\x00\x00\x00\x09short", "13"), (b"\x00\xff\xff\xff\xff", "8"), (b"\x01\x00\x00\x00\x01x", "12")],
)
async def test_a_stream_of_what_is_no_message(client: Any, body: bytes, status: str) -> None:
    fields = [(":method", "POST"), (":path", PATH + "Stream"), ("content-type", "application/grpc")]
    client.send(client.headers(1, fields), frames.frame(frames.DATA, frames.END_STREAM, 1, body))
    assert (await client.answer(1))[1]["grpc-status"] == status


async def test_a_stream_given_up_ends_its_handler(place: Any, channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(PATH + "Stream")(iter([b"wait"]))
    await place.begun.wait()
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_call_without_a_task(client: Any, place: Any) -> None:
    client.send(client.call(1, b"hello", path=PATH + "Begin"))
    assert await client.answer(1) == (b"\0\0\0\0\x07hello[]", {"grpc-status": "0"})
    named = [("x-request-id", "r7"), ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    client.send(client.call(3, b"", path=PATH + "Begin", more=named))
    assert (await client.answer(3))[0][5:] == b"['request_id', 'trace_id']"
    client.send(client.call(5, b"task", path=PATH + "Begin"))
    assert (await client.answer(5))[0][5:] == b"task"
    assert not place.cancelled.is_set()


async def test_a_call_without_a_task_that_fails_or_is_given_up(client: Any, place: Any) -> None:
    client.send(client.call(1, b"no", path=PATH + "Begin"), client.call(3, b"later no", path=PATH + "Begin"))
    assert (await client.answer(1))[1]["grpc-status"] == "3"
    assert (await client.answer(3))[1]["grpc-status"] == "14"
    assert not place.cancelled.is_set()
    client.send(client.call(5, b"never", path=PATH + "Begin"), frames.reset(5, frames.Code.CANCEL))
    async with asyncio.timeout(30):
        await place.cancelled.wait()


@pytest.mark.parametrize("method", ["Wait", "Begin"])
async def test_a_call_that_is_cut_ends_with_the_reason_and_its_handler_with_it(
    place: Any, client: Any, method: str
) -> None:
    client.send(client.call(1, b"never", path=PATH + method))
    await place.begun.wait()
    place.server.cut(errors.NotReady("time is over", retry_after=1.0))
    _, fields = await client.answer(1)
    assert (fields["grpc-status"], fields["grpc-message"]) == ("14", "time is over")
    assert fields["grpc-retry-pushback-ms"] == "1000"
    await place.cancelled.wait()


async def test_a_call_that_is_still_coming_is_cut(place: Any, client: Any) -> None:
    client.send(client.headers(1), frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\x09some"))
    await alive_beside(client)
    place.server.cut(errors.NotReady("time is over"))
    data, fields = await client.answer(1)
    assert (data, fields["grpc-status"]) == (b"", "14")
    # What still comes of it is passed over.
    client.send(frames.frame(frames.DATA, frames.END_STREAM, 1, b" more"))
    await alive_beside(client, 5)


async def test_an_answer_that_is_read_slowly_is_cut_with_the_reason(place: Any, client: Any) -> None:
    client.send(client.call(1, b"200000", path=PATH + "Large"))
    sent = 0
    while sent < frames.DEFAULT_WINDOW:
        sent += len((await client.until(frames.DATA, 1)).payload)
    place.server.cut(errors.NotReady("time is over"))
    data, fields = await client.answer(1)
    assert (data, fields["grpc-status"]) == (b"", "14")


@pytest.mark.parametrize("asked", [[], [b"a"], [b"a", b"wait"]])
async def test_a_stream_that_is_cut_says_why(place: Any, channel: grpc.aio.Channel, asked: list[bytes]) -> None:
    call = channel.stream_stream(PATH + "Stream")()
    for message in asked:
        await call.write(message)
    if b"wait" in asked:
        await place.begun.wait()
    assert [await call.read() for message in asked if message != b"wait"] == [b"A"] * (b"a" in asked)
    await channel.unary_unary(PATH + "Echo")(b"it has come")
    place.server.cut(errors.NotReady("time is over"))
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await call.details() == "time is over"


async def alive_beside(client: Any, number: int = 3) -> None:
    """What was sent before has come."""
    client.send(client.call(number))
    assert (await client.answer(number))[0][5:] == b"hello"
