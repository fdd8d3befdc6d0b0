"""Frames by hand: what a peer may do, what it may not, and what ends the connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

import pytest

from mlship.server.rpc import frames, http2, streams

PATH = "/test.Test/"
SETTINGS, PING, DATA, HEADERS = frames.SETTINGS, frames.PING, frames.DATA, frames.HEADERS


async def alive(client: Any, stream: int) -> None:
    """The connection still answers calls."""
    client.send(client.call(stream, b"still here"))
    data, end = await client.answer(stream)
    assert (data[5:], end["grpc-status"]) == (b"still here", "0")


async def test_calls_one_after_the_other_and_at_once(client: Any) -> None:
    await alive(client, 1)
    client.send(*(client.call(stream, b"%d" % stream) for stream in range(3, 203, 2)))
    for stream in range(3, 203, 2):
        data, end = await client.answer(stream)
        assert (data[5:], end) == (b"%d" % stream, {"grpc-status": "0"})


async def test_bytes_come_as_they_like(place: Any, client: Any) -> None:
    sent = client.call(1, b"a" * 50) + client.call(3, b"b" * 20)
    for at in range(len(sent)):
        client.send(sent[at : at + 1])
        await client.writer.drain()
    assert (await client.answer(1))[0][5:] == b"a" * 50
    assert (await client.answer(3))[0][5:] == b"b" * 20


async def test_padding_priority_and_continuations_are_read(client: Any) -> None:
    block = client.encoder.encode([(":method", "POST"), (":path", PATH + "Echo"), ("content-type", "application/grpc")])
    first = b"\x02" + b"\x00" * 5 + block[:7] + b"\x00\x00"
    client.send(
        frames.frame(HEADERS, frames.PADDED | frames.PRIORITISED, 1, first),
        frames.frame(frames.CONTINUATION, 0, 1, block[7:9]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]),
        frames.frame(DATA, frames.PADDED, 1, b"\x03\x00\x00" + b"\x00" * 3),
        frames.frame(DATA, 0, 1, b"\x00\x00\x02ok"),
        client.headers(1, [("x-last", "1")], flags=frames.END_HEADERS | frames.END_STREAM),
    )
    data, end = await client.answer(1)
    assert (data[5:], end["grpc-status"]) == (b"ok", "0")


async def test_pings_and_settings_are_acknowledged(client: Any) -> None:
    client.send(frames.frame(PING, 0, 0, b"12345678"), frames.settings({frames.Setting.MAX_FRAME: 20_000}))
    answer = await client.until(PING)
    assert (answer.flags, answer.payload) == (frames.ACK, b"12345678")
    assert (await client.until(SETTINGS)).flags == frames.ACK
    client.send(frames.frame(0xBB, 0, 0, b"a kind that nobody knows"), frames.frame(frames.PRIORITY, 0, 1, b"\x00" * 5))
    await alive(client, 1)


async def test_a_large_answer_waits_for_windows(client: Any) -> None:
    client.send(client.call(1, b"100000", path=PATH + "Large"))
    got = 0
    while got < frames.DEFAULT_WINDOW:
        got += len((await client.until(DATA)).payload)
    assert got == frames.DEFAULT_WINDOW
    client.send(frames.frame(PING, 0, 0, b"nothing!"))
    assert (await client.next()).kind == PING  # and no data before it
    client.send(frames.window_update(1, 1_000_000))
    client.send(frames.window_update(0, 10))
    got += len((await client.until(DATA)).payload)
    assert got == frames.DEFAULT_WINDOW + 10
    client.send(frames.window_update(0, 1_000_000))
    data, end = await client.answer(1)
    assert got + len(data) == 100_013
    assert end["grpc-status"] == "0"


async def test_a_window_given_by_settings_counts_for_streams_that_are_there(client: Any) -> None:
    client.send(frames.settings({frames.Setting.INITIAL_WINDOW: 0}), client.call(1, b"hello"))
    assert (await client.until(HEADERS)).stream == 1
    client.send(frames.settings({frames.Setting.INITIAL_WINDOW: 3}))
    assert len((await client.until(DATA)).payload) == 3
    client.send(frames.settings({frames.Setting.INITIAL_WINDOW: 100}))
    data, end = await client.answer(1)
    assert (data, end["grpc-status"]) == (b"\x00\x05hello", "0")


async def test_large_requests_are_let_in_piece_by_piece(client: Any) -> None:
    size = 2_500_000
    body = b"\x00" + size.to_bytes(4, "big") + b"y" * size
    client.send(frames.settings({frames.Setting.INITIAL_WINDOW: size * 2}), frames.window_update(0, size * 2))
    client.send(client.headers(1))
    sent, allowed = 0, streams.WINDOW
    while sent < len(body):
        while sent == allowed:
            update = await client.until(frames.WINDOW_UPDATE, 1)
            allowed += frames.number(update.payload)
        end = min(sent + 16_384, allowed, len(body))
        client.send(frames.frame(DATA, frames.END_STREAM if end == len(body) else 0, 1, body[sent:end]))
        sent = end
    data, last = await client.answer(1)
    assert (len(data), last["grpc-status"]) == (size + 5, "0")


async def test_a_reset_ends_the_call_and_nothing_else(place: Any, client: Any) -> None:
    client.send(client.call(1, path=PATH + "Wait"))
    async with asyncio.timeout(30):
        await place.begun.wait()
        client.send(frames.reset(1, frames.Code.CANCEL))
        await place.cancelled.wait()
    client.send(frames.window_update(1, 5), frames.frame(DATA, 0, 1, b"late"), client.headers(1, [("x", "late")]))
    await alive(client, 3)


async def test_a_connection_that_ends_ends_its_calls(place: Any, client: Any) -> None:
    client.send(client.call(1, path=PATH + "Wait"))
    async with asyncio.timeout(30):
        await place.begun.wait()
        client.writer.transport.abort()
        await place.cancelled.wait()


async def test_too_many_calls_at_once_are_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "MAX_STREAMS", 1)
    client.send(client.call(1, path=PATH + "Wait"), client.call(3))
    assert await client.answer(3) == (b"", {"reset": str(int(frames.Code.REFUSED_STREAM))})


async def test_calls_that_are_begun_only_to_be_given_up_end_it(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_MAX_RESETS", 5)
    client.send(*(client.headers(stream) + frames.reset(stream, frames.Code.CANCEL) for stream in range(1, 15, 2)))
    assert (await client.over()).payload[4:8] == frames.Code.ENHANCE_YOUR_CALM.to_bytes(4, "big")


async def test_who_does_not_read_is_not_read(client: Any, place: Any) -> None:
    """Answers to pings do not pile up here: what the peer does not take, it cannot ask for."""
    client.reader._transport.pause_reading()
    client.writer.transport.set_write_buffer_limits(high=0)
    many = frames.frame(PING, 0, 0, b"12345678") * 2000
    stuck = False
    for _ in range(2000):
        client.send(many)
        try:
            async with asyncio.timeout(1):
                await client.writer.drain()
        except TimeoutError:
            stuck = True
            break
    assert stuck
    client.reader._transport.resume_reading()


BROKEN = [
    (frames.frame(SETTINGS, 0, 0, b"12345"), frames.Code.FRAME_SIZE_ERROR),
    (frames.frame(SETTINGS, 0, 1), frames.Code.FRAME_SIZE_ERROR),
    (frames.settings({frames.Setting.INITIAL_WINDOW: 2**31}), frames.Code.FLOW_CONTROL_ERROR),
    (frames.settings({frames.Setting.MAX_FRAME: 1}), frames.Code.PROTOCOL_ERROR),
    (frames.frame(PING, 0, 0, b"short"), frames.Code.FRAME_SIZE_ERROR),
    (frames.head(DATA, 0, 1, http2.MAX_FRAME + 1), frames.Code.FRAME_SIZE_ERROR),
    (frames.frame(DATA, 0, 1, b"x"), frames.Code.PROTOCOL_ERROR),
    (frames.frame(DATA, 0, 0, b"x"), frames.Code.PROTOCOL_ERROR),
    (frames.frame(HEADERS, frames.END_HEADERS, 2, b""), frames.Code.PROTOCOL_ERROR),
    (frames.frame(HEADERS, frames.END_HEADERS, 1, b"\x80"), frames.Code.COMPRESSION_ERROR),
    (frames.frame(HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x09ab"), frames.Code.PROTOCOL_ERROR),
    (frames.frame(HEADERS, 0, 1, b"") + frames.frame(PING, 0, 0, b"12345678"), frames.Code.PROTOCOL_ERROR),
    (frames.frame(HEADERS, 0, 1, b"") + frames.frame(frames.CONTINUATION, 0, 1) * 65, frames.Code.ENHANCE_YOUR_CALM),
    (frames.frame(frames.CONTINUATION, 0, 1), frames.Code.PROTOCOL_ERROR),
    (frames.frame(frames.PUSH_PROMISE, 0, 1), frames.Code.PROTOCOL_ERROR),
    (frames.reset(1, frames.Code.CANCEL), frames.Code.PROTOCOL_ERROR),
    (frames.window_update(0, 0), frames.Code.FLOW_CONTROL_ERROR),
    (frames.window_update(0, 2**31 - 1), frames.Code.FLOW_CONTROL_ERROR),
    (frames.window_update(9, 1), frames.Code.PROTOCOL_ERROR),
    (b"GET / HTTP/1.1\r\n\r\n", frames.Code.FRAME_SIZE_ERROR),
]


@pytest.mark.parametrize(("sent", "code"), BROKEN)
async def test_what_breaks_the_protocol_ends_the_connection(client: Any, sent: bytes, code: frames.Code) -> None:
    client.send(sent)
    assert (await client.over()).payload[4:8] == code.to_bytes(4, "big")


async def test_fields_in_the_midst_of_a_call_end_the_connection(client: Any) -> None:
    client.send(client.headers(1), client.headers(1))
    assert (await client.over()).payload[4:8] == frames.Code.PROTOCOL_ERROR.to_bytes(4, "big")


async def test_data_behind_the_end_and_over_the_window_end_the_connection(place: Any, client: Any) -> None:
    client.send(client.call(1, path=PATH + "Wait"), frames.frame(DATA, 0, 1, b"more"))
    assert (await client.over()).payload[4:8] == frames.Code.STREAM_CLOSED.to_bytes(4, "big")


async def test_a_stream_over_its_window_ends_the_connection(client: Any) -> None:
    client.send(client.headers(1, path_of("Stream")))
    wait = b"\x00\x00\x00\x00\x04wait"
    filler = b"\x00" + (16_000).to_bytes(4, "big") + b"z" * 16_000
    client.send(frames.frame(DATA, 0, 1, wait), *(frames.frame(DATA, 0, 1, filler) for _ in range(150)))
    # Bytes that nobody reads any more may cost the client the reason.
    with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
        assert (await client.over()).payload[4:8] == frames.Code.FLOW_CONTROL_ERROR.to_bytes(4, "big")


def path_of(method: str) -> list[tuple[str, str]]:
    return [(":method", "POST"), (":path", PATH + method), ("content-type", "application/grpc")]


async def test_another_protocol_is_told_so(place: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(30):
        assert b"this port speaks gRPC" in await reader.read()
    writer.close()


async def test_who_says_nothing_is_not_waited_for(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_PREFACE_SECONDS", 0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(frames.PREFACE[:10])
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(30):
            while await reader.read(1000):
                pass
            raise ConnectionResetError
    writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_noise_ends_the_connection_and_hurts_nobody(place: Any, client: Any, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        sent = bytearray(client.call(1, b"hello") + frames.frame(PING, 0, 0, b"12345678") + frames.settings({}))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(sent))
            sent[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        with socket.create_connection(("127.0.0.1", place.port)) as noisy:
            noisy.sendall(frames.PREFACE + bytes(sent))
            await asyncio.sleep(0)
        client.encoder = type(client.encoder)()
    await alive(client, 1)


async def test_leaving_lets_calls_end_and_takes_no_more(place: Any, client: Any) -> None:
    client.send(client.call(1, path=PATH + "Wait"))
    await place.begun.wait()
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(place.server.stop(10))
        assert (await client.until(frames.GOAWAY)).payload[:4] == b"\x7f\xff\xff\xff"
        client.send(client.call(3, b"on its way"))
        ping = await client.until(PING)
        client.send(frames.frame(PING, frames.ACK, 0, ping.payload))
        assert (await client.until(frames.GOAWAY)).payload[:4] == (3).to_bytes(4, "big")
        client.send(client.call(5))
        assert await client.answer(5) == (b"", {"reset": str(int(frames.Code.REFUSED_STREAM))})
        place.go.set()
        data, _ = await client.answer(1)
        assert data[5:] == b"waited"
        await stopping
    assert not await client.reader.read()
