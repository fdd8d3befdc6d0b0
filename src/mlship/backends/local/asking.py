"""Asks a process something over its socket: one HTTP/1.1 request, one answer, one connection.

For what is said to a pool's processes: reports, which may be large, and orders, which may take long. Readiness is asked
by ``probes``, whose answers are small and whose number is not.
"""

from __future__ import annotations

import asyncio

LARGEST = 64 * 2**20
_HEAD = 64 * 2**10


class Silence(Exception):
    """There was no answer, and why."""


async def ask(address: str, verb: str, path: str, *, seconds: float) -> tuple[int, bytes]:
    """Status and body of ``verb path`` at ``address`` (``unix:/path`` or ``host:port``).

    ``path`` is in the form it has in a URL. Raises Silence when there is no whole answer within ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await _connect(address)
            try:
                head = f"{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                writer.write(head.encode("ascii"))
                return await _answer(reader)
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise Silence(f"no answer within {seconds:g} s") from error
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Silence(str(error)[:300] or type(error).__name__) from error


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"), limit=_HEAD)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=_HEAD)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    status = int(first.partition(" ")[2].partition(" ")[0])
    sizes = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    if sizes:
        size = int(sizes[0])
        if size > LARGEST:
            raise ValueError(f"its answer has {size} bytes")
        return status, await reader.readexactly(size)
    body = bytearray()
    while len(body) < LARGEST and (more := await reader.read(_HEAD)):
        body += more
    return status, bytes(body)
