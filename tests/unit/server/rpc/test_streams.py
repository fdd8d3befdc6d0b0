"""What goes out, and when: a sender over a transport that keeps what it is given."""

from __future__ import annotations

import asyncio
from typing import Any

from mlship.server.rpc import frames, streams


class Kept(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class Carrier:
    def __init__(self) -> None:
        self.finished: list[streams.Stream] = []
        self.sender = streams.Sender(self.finished.append)
        self.kept = Kept()
        self.sender.connected(self.kept)

    def forget(self, stream: streams.Stream) -> None:
        stream.open = False


class Quiet(streams.Stream):
    def opened(self) -> None:
        pass

    def data(self, chunk: bytes, *, end: bool) -> None:
        pass

    def cut(self, error: Exception) -> None:
        pass

    def gone(self) -> None:
        pass


async def test_what_is_ready_together_is_one_write() -> None:
    carrier = Carrier()
    for number in (1, 3, 5):
        Quiet(carrier, number).send(b"head", b"data", b"end")
    assert not carrier.kept.written
    await asyncio.sleep(0)
    assert [len(data) for data in carrier.kept.written] == [3 * (3 * 9 + 4 + 4 + 3)]
    assert [stream.id for stream in carrier.finished] == [1, 3, 5]


async def test_much_is_not_kept_back() -> None:
    carrier = Carrier()
    carrier.sender.write(b"x" * 70_000)
    assert [len(data) for data in carrier.kept.written] == [70_000]


async def test_what_waits_stays_in_order_and_ends_once() -> None:
    carrier = Carrier()
    carrier.sender.allowed = 6
    stream = Quiet(carrier, 1)
    stream.send(b"head", b"first", None)
    stream.send(b"", b"second", b"end")
    carrier.sender.write_out()
    assert carrier.kept.written[0].endswith(b"s") and not carrier.finished
    carrier.sender.allowed = 100
    carrier.sender.flush_all()
    carrier.sender.close()
    data = frames.frame(frames.DATA, 0, 1, b"econd") + frames.frame(frames.HEADERS, 5, 1, b"end")
    assert carrier.kept.written[1] == data
    assert (carrier.finished, carrier.kept.closing) == ([stream], True)


async def test_nothing_is_sent_for_a_stream_that_was_given_up() -> None:
    carrier = Carrier()
    stream = Quiet(carrier, 1)
    stream.reset(frames.Code.CANCEL)
    stream.reset(frames.Code.CANCEL)
    stream.send(b"head", b"data", b"end")
    carrier.sender.write_out()
    assert b"".join(carrier.kept.written) == frames.reset(1, frames.Code.CANCEL)


async def test_what_was_not_taken_yet_can_be_left_out() -> None:
    carrier = Carrier()
    stream = Quiet(carrier, 1)
    stream.allowed = 3
    stream.send(b"head", b"abcdef", b"good end")
    assert carrier.sender.waiting
    stream.unsend()
    assert not carrier.sender.waiting
    stream.send(b"", b"", b"bad end")
    await asyncio.sleep(0)
    sent = b"".join(carrier.kept.written)
    assert sent.endswith(b"bad end")
    assert b"abc" in sent
    assert b"def" not in sent
    assert b"good end" not in sent
    assert carrier.finished == [stream]
