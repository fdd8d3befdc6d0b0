import asyncio
import contextlib

import pytest

from mlship.backends.local import probes
from mlship.plan import actions

PROBE = actions.Probe(path="/v2/health/ready", timeout=5.0)


@contextlib.asynccontextmanager
async def served(path, reply, *, hang=False):
    seen, done = [], asyncio.Event()

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        if hang:
            await reader.read()
        writer.write(reply)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        done.set()

    async with await asyncio.start_unix_server(answer, path):
        yield seen
        await asyncio.wait_for(done.wait(), 20)


def http(status, body=b"", *, length=True):
    size = b"Content-Length: %d\r\n" % len(body) if length else b""
    return b"HTTP/1.1 %s\r\n%s\r\n%s" % (status, size, body)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (http(b"200 OK"), probes.Answer(True)),
        (http(b"204 No Content"), probes.Answer(True)),
        (http(b"503 Busy", b'{"error": "it\\n  loads"}'), probes.Answer(False, "answers 503: it loads")),
        (http(b"503 Busy", b'{"live": 1}'), probes.Answer(False, 'answers 503: {"live": 1}')),
        (http(b"500 No", b"boom", length=False), probes.Answer(False, "answers 500: boom")),
        (http(b"404 Not Found"), probes.Answer(False, "answers 404")),
        (http(b"500 No", b"x" * 9999), probes.Answer(False, "answers 500: " + "x" * 300)),
        (b"SSH-2.0-x\r\n\r\n", probes.Answer(False, "answers, but not with HTTP: 'SSH-2.0-x'")),
    ],
)  # fmt: skip
async def test_answers(tmp_path, reply, expected):
    path = str(tmp_path / "s")
    async with served(path, reply) as seen:
        assert await probes.ask(f"unix:{path}", PROBE) == expected
    assert seen[0].startswith(b"GET /v2/health/ready HTTP/1.1\r\n")


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200", b"HTTP/1.1 500 x\r\nContent-Length: 9\r\n\r\nab",
                                   b"HTTP/1.1 500 x\r\nContent-Length: many\r\n\r\nab", b"x" * 200_000])  # fmt: skip
async def test_an_answer_that_is_none(tmp_path, reply):
    path = str(tmp_path / "s")
    async with served(path, reply):
        answer = await probes.ask(f"unix:{path}", PROBE)
    assert not answer.ready
    assert answer.message.startswith("cannot be asked: ")
    assert len(answer.message) < 400


async def test_one_that_does_not_answer_has_a_deadline(tmp_path):
    path = str(tmp_path / "s")
    async with served(path, b"", hang=True):
        answer = await probes.ask(f"unix:{path}", actions.Probe(path="/", timeout=0.1))
    assert answer == probes.Answer(False, "no answer within 0.1 s")


async def test_nobody_there(tmp_path):
    assert await probes.ask(f"unix:{tmp_path}/s", PROBE) == probes.Answer(False, "does not listen yet")
    assert await probes.ask("127.0.0.1:1", PROBE) == probes.Answer(False, "does not listen yet")


async def test_without_a_path_a_connection_is_enough():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await probes.ask(f"127.0.0.1:{port}", actions.Probe()) == probes.Answer(True)


REPORT = actions.Probe(path="/ready", report="/report", timeout=5.0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (http(b"200 OK", b"{}"), b"{}"),
        (http(b"200 OK", b"{}", length=False), b"{}"),
        (http(b"404 Not Found", b"{}"), b""),
        (b"SSH-2.0-x\r\n\r\n", b""),
        (b"", b""),
        (b"HTTP/1.1 200 x\r\nContent-Length: many\r\n\r\nab", b""),
    ],
)
async def test_a_report(tmp_path, reply, expected):
    path = str(tmp_path / "s")
    async with served(path, reply) as seen:
        assert await probes.fetch(f"unix:{path}", REPORT) == expected
    assert seen[0].startswith(b"GET /report HTTP/1.1\r\n")


async def test_no_report_where_nobody_answers(tmp_path):
    assert await probes.fetch(f"unix:{tmp_path}/none", REPORT) == b""
