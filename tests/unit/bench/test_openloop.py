import asyncio

import pytest
from bench import openloop


@pytest.mark.parametrize(("values", "expected"), [([3.0], 3.0), (list(range(1, 101)), 99), ([1.0, 2.0], 2.0)])
def test_a_percentile_is_a_latency_that_was_measured(values, expected):
    assert openloop.percentile(values, 0.99) == expected


def test_latencies_count_from_when_a_request_was_due_and_unanswered_ones_failed():
    late = openloop.Outcome(due=0.0, sent=0.9, ended=1.0, status=200, waited=True)
    refused = openloop.Outcome(due=0.0, sent=0.0, ended=0.1, status=503)
    found = openloop.figures([late, refused], due=3, seconds=2.0)
    assert (found["p50_ms"], found["failed"], found["rate"], found["offered"]) == (1000.0, 2.0, 0.5, 1.5)


async def test_every_request_is_sent_to_a_real_server_and_its_status_counted():
    seen = 0
    handlers = set()

    async def answer(reader, writer):
        nonlocal seen
        handlers.add(asyncio.current_task())
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(4)
            seen += 1
            status = b"503 Busy" if seen % 10 == 0 else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict"
    load = openloop.Load(url, openloop.request_of(url, b"body", []), rate=100.0, seconds=1.0, connections=4)
    async with server:
        await load.run()
        async with asyncio.timeout(30):
            await asyncio.gather(*handlers)
    found = openloop.figures(load.outcomes, due=load.due, seconds=1.0)
    assert (seen, load.due, found["failed"]) == (100, 100, 10.0)


async def test_without_a_server_every_request_has_failed_and_the_load_ends():
    load = openloop.Load("http://127.0.0.1:1/x", b"", rate=50.0, seconds=0.2, connections=4)
    await load.run(grace=0.2)
    assert openloop.figures(load.outcomes, due=load.due, seconds=0.2)["failed"] == 10.0
