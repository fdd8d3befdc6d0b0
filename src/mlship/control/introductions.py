"""What the model of a service takes and gives, with an example row, as a process that has it says.

The process itself is asked, not the gateway: there a question is a request like any other, which would keep a service
from sleeping and wake one that does. What was said last is remembered, so that a service that sleeps is known, too.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx

from mlship.control import queries
from mlship.plan import observed

_MOST = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Introduction:
    """``model``: V2's metadata of a model; ``example``: a V2 request that it answers. None: not known."""

    model: dict[str, Any] | None = None
    example: dict[str, Any] | None = None


class Introductions:
    """Asks, and remembers the answers of so many services."""

    def __init__(self, *, most: int = _MOST) -> None:
        self._most = most
        self._known: collections.OrderedDict[observed.ServiceKey, tuple[str, Introduction]] = collections.OrderedDict()

    async def of(self, key: observed.ServiceKey, seen: observed.Observed, *, name: str, revision: str) -> Introduction:
        """
        Args:
            name: of the model, in its process.
            revision: the one that serves; what was remembered of another is not true of it.
        """
        for replica in _holders(seen, revision):
            found = await _asked(replica, name)
            if found is not None:
                self._known[key] = (revision, found)
                self._known.move_to_end(key)
                if len(self._known) > self._most:
                    self._known.popitem(last=False)
                return found
        known, found = self._known.get(key, ("", Introduction()))
        return found if known == revision else Introduction()


def _holders(seen: observed.Observed, revision: str) -> Iterator[observed.Replica]:
    """The processes that have the model in memory: to ask another one of a pool would have it load the model."""
    if seen.enlisted is not None:
        loaded = {one.replica for one in seen.enlisted.placements if one.state is observed.Held.LOADED}
        yield from (one for one in seen.enlisted.replicas if one.id in loaded and one.ready)
        return
    yield from (one for one in seen.replicas if one.ready and one.id.revision == revision)


async def _asked(replica: observed.Replica, name: str) -> Introduction | None:
    if replica.endpoint is None:
        return None
    socket, url = queries.address(replica.endpoint.http)
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), trust_env=False) as client:
        try:
            model = await queries.document(client, f"{url}/v2/models/{name}")
        except queries.Unanswered:
            return None  # It is going, or a program of the user's own that speaks another protocol.
        try:
            return Introduction(model, await queries.document(client, f"{url}/v2/models/{name}/example"))
        except queries.Unanswered:
            return Introduction(model)
