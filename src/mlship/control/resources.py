"""The kinds the control API serves, as it needs to know them: where they live in the URL, and how they are listed.

Built once from ``api.kinds`` by ``rules.catalog``; everything else in the control plane knows kinds only through this,
so that adding a kind touches no handler. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mlship import errors

Path = tuple[str, ...]
# Kubernetes' category of the kinds that people work with.
ALL = "all"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of ``kubectl get``: ``path`` is a JSONPath below the object, ``priority`` above 0 means -o wide."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """A kind under its URL name.

    ``drained``: deletion is finished by the loop, after its replicas are gone. ``target``: the field in which its
    objects name the one that they are about. ``served``: objects of it can be stored, it is not only refused by name.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    columns: tuple[Column, ...] = ()
    drained: bool = False
    target: Path = ()
    served: bool = True

    @property
    def id(self) -> str:
        """The name that is unique among all kinds: what the store files objects under."""
        return f"{self.plural}.{self.group}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


class Catalog:
    """All kinds, found by URL or by what an object calls itself."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.all = tuple(resources)
        self._by_url = {(one.group, one.version, one.plural): one for one in self.all}
        self._by_kind = {(one.api_version, one.kind): one for one in self.all}

    def at(self, group: str, version: str, plural: str) -> Resource:
        """The kind behind a URL. Raises SpecError (NotFound) naming what is served."""
        found = self._by_url.get((group, version, plural))
        if found is None:
            raise errors.SpecError(
                f"the server has no resource {plural!r} in {group}/{version}.",
                hint=f"It serves {', '.join(sorted(f'{one.api_version}/{one.plural}' for one in self.all))}.",
                reason=errors.Reason.NOT_FOUND,
            )
        return found

    def named(self, api_version: object, kind: object) -> Resource:
        """The kind an object says it is. Raises SpecError naming what is served."""
        found = self._by_kind.get((str(api_version), str(kind)))
        if found is None:
            known = ", ".join(sorted(f"{one.kind} ({one.api_version})" for one in self.all))
            raise errors.SpecError(f"no kind {kind!r} in {api_version!r} is served.", hint=f"Served kinds: {known}.")
        return found

    def kind(self, kind: str) -> Resource:
        """The kind called ``kind``, whatever its group. Raises KeyError."""
        for one in self.all:
            if one.kind == kind:
                return one
        raise KeyError(kind)

    def targets(self) -> dict[str, Path]:
        """The kinds whose objects name another by ``target``, by id."""
        return {one.id: one.target for one in self.all if one.target}

    def versions(self) -> dict[str, list[str]]:
        """Group -> its versions, in the order of declaration."""
        found: dict[str, list[str]] = {}
        for one in self.all:
            versions = found.setdefault(one.group, [])
            if one.version not in versions:
                versions.append(one.version)
        return found
