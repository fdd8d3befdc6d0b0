"""A steady open-loop load: one request each 1/rate seconds whatever the answers do, every outcome kept."""

import asyncio
import dataclasses
import time
from collections.abc import Callable

import httpx

BODY = b'{"inputs":[{"name":"input-0","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One request: when it was due, when it ended (both on time.monotonic), and its status or error."""

    due: float
    ended: float
    status: int
    error: str = ""


@dataclasses.dataclass
class Load:
    """Sends ``rate`` requests a second for ``seconds`` or until ``done``."""

    url: str
    rate: float = 200.0
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)

    async def run(self, seconds: float, during: Callable[["Load"], "asyncio.Future[None]"]) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(timeout=20, limits=limits) as http, asyncio.TaskGroup() as group:
            acting = group.create_task(during(self))
            began = time.monotonic()
            number = 0
            while number < seconds * self.rate and not (acting.done() and acting.exception()):
                due = began + number / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._one(http, due))
                number += 1

    async def _one(self, http: httpx.AsyncClient, due: float) -> None:
        try:
            answer = await http.post(self.url, content=BODY)
            error = answer.text if answer.status_code != 200 else ""
            self.outcomes.append(Outcome(due, time.monotonic(), answer.status_code, error))
        except httpx.HTTPError as broken:
            self.outcomes.append(Outcome(due, time.monotonic(), 0, repr(broken)))

    @property
    def failed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.status != 200]

    async def answered(self, count: int, *, since: float, deadline: float = 30.0) -> None:
        """Wait until ``count`` requests that were due after ``since`` have been answered well."""
        async with asyncio.timeout(deadline):
            while sum(one.due > since and one.status == 200 for one in self.outcomes) < count:
                await asyncio.sleep(0.02)
