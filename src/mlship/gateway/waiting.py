"""Who waits at the gate, and what each is answered. Pure: time is an argument, answers are values.

A question is "may this request go on?", asked in the name of a service and of the revisions its route leads to. It is
answered once: yes when Envoy has an endpoint of each of these revisions, no when there are too many (at once), when the
service's patience is over, or when there is no hope. Whoever asks and leaves frees the place.

    ask -> [ held ] -> serve | expire | tell (no hope) | close -> answer
                    -> cancel

``news`` says which services have somebody waiting: once when the first begins to, again each second while one does, so
that a wake-up that got lost heals, and once when nobody does any more.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Mapping

from mlship.plan import observed, routes

NUDGE_SECONDS = 1.0
# A question before the control plane has looked at the service, just after its start.
UNTOLD = routes.Gate(patience=30.0, places=100)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a question is answered: yes, or why not. ``retry_after``: seconds."""

    yes: bool
    reason: str = ""
    retry_after: int = 1


YES = Answer(yes=True)
Answered = tuple[int, Answer]


@dataclasses.dataclass(slots=True)
class _Held:
    revisions: frozenset[str]
    deadline: float


@dataclasses.dataclass(slots=True)
class _Service:
    """What is known of a service: its terms, the revisions that may be sent to, who waits, when it was last let in."""

    terms: routes.Gate = UNTOLD
    message: str = ""
    serving: frozenset[str] = frozenset()
    held: dict[int, _Held] = dataclasses.field(default_factory=dict)
    nudge_at: float = 0.0
    last_yes: dict[str, float] = dataclasses.field(default_factory=dict)


class Waiting:
    """All questions of all services. Numbers are the asker's: each is used once."""

    def __init__(self) -> None:
        self._services: dict[observed.ServiceKey, _Service] = {}
        self._of: dict[int, observed.ServiceKey] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._nudges: list[tuple[float, observed.ServiceKey]] = []

    def waiting(self, service: observed.ServiceKey) -> int:
        """How many wait for a service."""
        found = self._services.get(service)
        return len(found.held) if found else 0

    def ask(self, number: int, service: observed.ServiceKey, *, revisions: frozenset[str], now: float) -> Answer | None:
        """The answer at once, or None: the question is held."""
        found = self._services.setdefault(service, _Service())
        if self._passes(found, revisions):
            return self._let_in(found, revisions, now)
        if found.terms.hopeless:
            return Answer(yes=False, reason=found.terms.hopeless)
        if len(found.held) >= found.terms.places:
            reason = f"{len(found.held)} requests wait for {service} already, and no more may; {_why(found)}"
            return Answer(yes=False, reason=reason)
        if not found.held:
            self._nudge(service, now)
        deadline = now + found.terms.patience
        found.held[number] = _Held(revisions, deadline)
        self._of[number] = service
        heapq.heappush(self._deadlines, (deadline, number))
        return None

    @staticmethod
    def _passes(found: _Service, revisions: frozenset[str]) -> bool:
        return bool(revisions) and revisions <= found.serving

    @staticmethod
    def _let_in(found: _Service, revisions: Iterable[str], now: float) -> Answer:
        found.last_yes.update(dict.fromkeys(revisions, now))
        return YES

    def cancel(self, number: int) -> None:
        """Who asked has left. Nothing happens when the question was answered."""
        service = self._of.pop(number, None)
        if service is not None:
            self._release(service, number)

    def _release(self, service: observed.ServiceKey, number: int) -> None:
        del self._services[service].held[number]

    def tell(self, route: routes.ServiceRoute) -> list[Answered]:
        """A service's terms; those who have no hope now are told so. Deadlines of those who wait stay."""
        found = self._services.setdefault(route.service, _Service())
        found.message = route.message
        # Envoy may ask for a moment longer than the route wants it to: the terms that it had stay.
        if route.gate is not None:
            found.terms = route.gate
        else:
            hopeless = "" if route.splits else route.message or f"{route.service} has no ready replica."
            found.terms = dataclasses.replace(found.terms, hopeless=hopeless)
        if not found.terms.hopeless:
            return []
        return self._answer(route.service, lambda held: Answer(yes=False, reason=found.terms.hopeless))

    def forget(self, service: observed.ServiceKey) -> list[Answered]:
        """The service is gone: so is hope."""
        gone = self._answer(service, lambda held: Answer(yes=False, reason=f"{service} was deleted."))
        self._services.pop(service, None)
        return gone

    def serve(self, service: observed.ServiceKey, revisions: frozenset[str], *, now: float) -> list[Answered]:
        """Envoy has endpoints of these revisions, and of no others; who can go on now is told so."""
        if not revisions and service not in self._services:
            # What is gone is not remembered for having nothing.
            return []
        found = self._services.setdefault(service, _Service())
        found.serving = revisions

        def answer(held: _Held) -> Answer | None:
            return self._let_in(found, held.revisions, now) if self._passes(found, held.revisions) else None

        return self._answer(service, answer)

    def close(self, reason: str) -> list[Answered]:
        """Nobody is held any longer."""
        no = Answer(yes=False, reason=reason)
        return [one for service in list(self._services) for one in self._answer(service, lambda held: no)]

    def expire(self, now: float) -> list[Answered]:
        """Those whose patience is over, and why they have waited in vain."""
        late: list[Answered] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            service = self._of.pop(number, None)
            if service is not None:
                found = self._services[service]
                reason = f"{service} had no ready replica within {found.terms.patience:g} s; {_why(found)}"
                late.append((number, Answer(yes=False, reason=reason)))
                self._release(service, number)
        return late

    def news(self, now: float) -> list[observed.ServiceKey]:
        """The services to look at, now."""
        due: list[observed.ServiceKey] = []
        self._drop_idle()
        while self._nudges and self._nudges[0][0] <= now:
            _, service = heapq.heappop(self._nudges)
            if self._services[service].held:
                self._nudge(service, now + NUDGE_SECONDS)
            due.append(service)
            self._drop_idle()
        return due

    def _nudge(self, service: observed.ServiceKey, at: float) -> None:
        self._services[service].nudge_at = at
        heapq.heappush(self._nudges, (at, service))

    def _drop_idle(self) -> None:
        """Take from the front what is no longer so: the service is gone, or somebody else began to wait since."""
        while self._nudges:
            at, service = self._nudges[0]
            found = self._services.get(service)
            if found is not None and found.nudge_at == at:
                return
            heapq.heappop(self._nudges)

    def wake_at(self) -> float | None:
        """When ``expire`` or ``news`` have something to say; None: when somebody asks."""
        while self._deadlines and self._deadlines[0][1] not in self._of:
            heapq.heappop(self._deadlines)
        self._drop_idle()
        return min((first[0][0] for first in (self._deadlines, self._nudges) if first), default=None)

    def needed(self, service: observed.ServiceKey, *, now: float, seconds: float) -> Mapping[str, float | None]:
        """The revisions that somebody waits for (None) or was let in to within ``seconds`` (when that is over)."""
        found = self._services.get(service)
        if found is None:
            return {}
        lately = {revision: at + seconds for revision, at in found.last_yes.items() if at + seconds > now}
        found.last_yes = {revision: at for revision, at in found.last_yes.items() if revision in lately}
        return {**lately, **{revision: None for held in found.held.values() for revision in held.revisions}}

    def _answer(self, service: observed.ServiceKey, answer: Callable[[_Held], Answer | None]) -> list[Answered]:
        found = self._services.get(service)
        answered: list[Answered] = []
        for number, held in list(found.held.items()) if found else []:
            if (said := answer(held)) is not None:
                del self._of[number]
                self._release(service, number)
                answered.append((number, said))
        return answered


def _why(found: _Service) -> str:
    return found.message or "try again."
