"""The pools of the fake world: who is enlisted where, and what the processes would say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from mlship.backends import consistency
from mlship.plan import actions, observed, pool


class Pools:
    """Entries are there at once; models are in memory only when a test has them ``used``."""

    def __init__(self, changed: Callable[[observed.ServiceKey], None]) -> None:
        self._changed = changed
        self._held: dict[observed.ServiceKey, observed.Enlisted] = {}
        self._requests: dict[observed.ServiceKey, dict[str, int]] = {}
        self.entries: dict[observed.ServiceKey, actions.Entry] = {}

    def of(self, member: observed.ServiceKey) -> observed.Enlisted | None:
        """The entry of a member."""
        return self._held.get(member)

    def count(self, key: observed.ServiceKey) -> int:
        """How many models are in a pool."""
        return sum(one.pool == key for one in self._held.values())

    def requests(self, key: observed.ServiceKey) -> Mapping[str, int]:
        """The requests that the models of a pool have had."""
        return dict(self._requests.get(key, {}))

    def apply(self, action: actions.EnlistModel | actions.DelistModel) -> None:
        """Do either."""
        if isinstance(action, actions.EnlistModel):
            self.enlist(action)
        else:
            self.delist(action)

    def enlist(self, action: actions.EnlistModel) -> None:
        """Write an entry. What is in memory of it stays, and answers until ``used`` says that the new one does."""
        member = pool.member_key(action.pool, action.entry.name)
        before = self._held.get(member)
        if before is not None and before.pool != action.pool:
            raise consistency.ImpossibleWorld(f"{member} is in {before.pool} already")
        if before is not None and before.mark == action.entry.mark:
            return
        placements = () if before is None else before.placements
        entry = action.entry
        self.entries[member] = entry
        self._held[member] = observed.Enlisted(action.pool, entry.name, entry.digest, entry.mark, placements)
        self._changed(member)

    def delist(self, action: actions.DelistModel) -> None:
        """Remove an entry."""
        member = pool.member_key(action.pool, action.name)
        if member in self._held and self._held[member].pool == action.pool:
            del self._held[member], self.entries[member]
            self._changed(member)

    def seed(self, member: observed.ServiceKey, enlisted: observed.Enlisted) -> None:
        """Begin with an entry as found elsewhere."""
        self._held[member] = enlisted

    def used(self, member: observed.ServiceKey, replica: observed.ReplicaId, *, times: int = 1) -> None:
        """Requests came: it is in the memory of a process now."""
        held = self._needed(member)
        self._place(member, observed.Placement(replica, observed.Held.LOADED, digest=held.digest, size=1))
        counts = self._requests.setdefault(held.pool, {})
        counts[held.name] = counts.get(held.name, 0) + times

    def fails(
        self, member: observed.ServiceKey, replica: observed.ReplicaId, reason: str, *, quarantined: bool = False
    ) -> None:
        """A process could not load it; what it had in memory of it answers on."""
        before = next((one for one in self._needed(member).placements if one.replica == replica), None)
        loaded = before is not None and before.state is observed.Held.LOADED and not quarantined
        state = observed.Held.LOADED if loaded else observed.Held.FAILED
        self._place(
            member,
            observed.Placement(
                replica, state, reason=reason, digest=self._needed(member).digest, quarantined=quarantined
            ),
        )

    def _needed(self, member: observed.ServiceKey) -> observed.Enlisted:
        if member not in self._held:
            raise consistency.ImpossibleWorld(f"{member} is in no pool")
        return self._held[member]

    def _place(self, member: observed.ServiceKey, placement: observed.Placement) -> None:
        held = self._needed(member)
        others = tuple(one for one in held.placements if one.replica != placement.replica)
        self._held[member] = dataclasses.replace(held, placements=(*others, placement))
        self._changed(member)
