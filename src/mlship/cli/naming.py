"""What the words of a command line name: services by their names, everything else as kubectl takes it.

``NAME ...`` are services (or TrainedModels), ``KIND NAME ...`` and ``KIND/NAME ...`` objects of any kind. A word that
could be read both ways is never guessed where something would be deleted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mlship import client, errors
from mlship.cli import session

SERVICES = ("InferenceService", "TrainedModel")
_NOT_FOUND = errors.Reason.NOT_FOUND


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """An object by kind and name; without a kind the service of that name, else the TrainedModel."""

    name: str
    kind: client.Kind | None = None

    def read(self, control: client.Client, *, namespace: str) -> client.Object:
        """The object. Raises SpecError (NotFound)."""
        if self.kind is None:
            return session.model(control, self.name, namespace=namespace)
        return control.get(self.kind.plural, self.name, namespace=namespace)


def parse(control: client.Client, words: Sequence[str], *, services: bool) -> tuple[Named, ...]:
    """What is named. ``services``: several words without a kind are several services, else the first is a kind.

    Raises SpecError for a kind that there is not, naming those there are.
    """
    slashed = [word for word in words if "/" in word]
    if slashed and len(slashed) < len(words):
        raise errors.SpecError(
            f"{slashed[0]} has its kind with it, and {next(word for word in words if '/' not in word)} has not.",
            hint="Write KIND/NAME for all, or KIND NAME NAME.",
        )
    if slashed:
        pairs = [word.partition("/") for word in words]
        return tuple(Named(_name(name, word), kind(control, word)) for word, _, name in pairs)
    if len(words) == 1 or (services and control.kind(words[0]) is None):
        return tuple(Named(word) for word in words)
    first = kind(control, words[0])
    return tuple(Named(word, first) for word in words[1:])


def kind(control: client.Client, word: str) -> client.Kind:
    """The kind that a word means. Raises SpecError naming those whose objects there may be."""
    found = control.kind(word)
    if found is None:
        raise client.Refused(f"There is no kind {word!r} here; there are {_known(control)}.", reason=_NOT_FOUND)
    return _kept(control, found)


def _kept(control: client.Client, found: client.Kind) -> client.Kind:
    if not found.served:
        text = f"No {found.kind} is ever kept: this version refuses them. There are {_known(control)}."
        raise client.Refused(text, reason=_NOT_FOUND)
    return found


def _name(name: str, word: str) -> str:
    if not name:
        raise errors.SpecError(f"{word}/ names nothing.", hint=f"Write {word}/NAME.")
    return name


def _known(control: client.Client) -> str:
    return ", ".join(str(one) for one in control.served())
