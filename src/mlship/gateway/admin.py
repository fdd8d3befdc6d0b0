"""Asks Envoy's admin interface, over its Unix socket: which version of a resource is in force, what was counted."""

from __future__ import annotations

import pathlib
import re
import urllib.parse

import httpx

from mlship import errors
from mlship.gateway import files

_STAT = {
    files.CLUSTERS: "cluster_manager.cds.version_text",
    files.ROUTES: "http.ingress.rds.main.version_text",
}

_UNDELIVERED = (
    "http.ingress.downstream_rq_active",
    "http.ingress.downstream_cx_tx_bytes_buffered",
    "http2.pending_send_bytes",
)


class Unreachable(errors.NotReady):
    """Envoy does not answer: it is starting, or gone and about to be restarted."""


class Admin:
    """Envoy's admin interface. One connection, kept open."""

    def __init__(self, socket: pathlib.Path) -> None:
        self._socket = socket
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=2.0)

    async def version(self, what: str) -> str | None:
        """The version in force of ``files.CLUSTERS`` or ``files.ROUTES``; None: none yet. Raises Unreachable.

        Cheap at any number of services: the two are Envoy's only statistics that are texts.
        """
        stat = _STAT[what]
        query = urllib.parse.urlencode({"type": "TextReadouts", "filter": f"^{re.escape(stat)}$"})
        try:
            answer = await self._client.get(f"/stats?{query}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(f"Envoy's admin interface at {self._socket} does not answer: {error}.") from error
        for line in answer.text.splitlines():
            name, _, value = line.partition(": ")
            if name == stat and value.strip('"'):
                return value.strip('"')
        return None

    async def stats(self, pattern: str) -> str:
        """The statistics whose names match, in the form that ``gateway.stats`` reads. Raises Unreachable."""
        query = urllib.parse.urlencode({"filter": pattern, "histogram_buckets": "detailed"})
        try:
            answer = await self._client.get(f"/stats?{query}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(f"Envoy's admin interface at {self._socket} does not answer: {error}.") from error
        return answer.text

    async def drain(self) -> None:
        """No new connections from now on; those that are there end with their next answer. Raises Unreachable."""
        try:
            # The first has answers end their connections, the second closes the door at once.
            for path in ("/drain_listeners?graceful&skip_exit", "/drain_listeners"):
                (await self._client.post(path)).raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(f"Envoy's admin interface at {self._socket} does not answer: {error}.") from error

    async def undelivered(self) -> int:
        """Requests under way and bytes of answers that callers have not taken: 0 is nothing. Raises Unreachable."""
        text = await self.stats(f"^({'|'.join(map(re.escape, _UNDELIVERED))})$")
        counts = (line.rpartition(": ")[2] for line in text.splitlines())
        return sum(int(count) for count in counts if count.isdecimal())

    async def close(self) -> None:
        await self._client.aclose()
