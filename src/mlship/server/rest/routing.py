"""Which handler answers a method and a path. Pure: a table, no framework.

A pattern is a path with open parts in braces, ``/v2/models/{model}/infer``; literal parts win over open ones. V1's
verbs stand behind a colon in the last part (``/v1/models/iris:predict``) and are split off before matching. Parts are
unquoted one by one, so that an escaped slash can never make two parts of one.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping

from mlship import errors
from mlship.server import refusals
from mlship.server.rest import exchange

Handler = Callable[[exchange.Request], Awaitable[exchange.Response]]
# Sends a request whose body is there on its way and returns what to call when nobody waits any more; the answer is
# told to the callable it is given, later. Raises MlshipError.
Begin = Callable[[exchange.Request, Callable[[exchange.Response], None]], Callable[[], None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """``protocol`` names an inference protocol for the metrics, and ``begin`` is there, for inferences only."""

    method: str
    pattern: str
    handler: Handler
    protocol: str = ""
    begin: Begin | None = None


class MethodNotAllowed(errors.SpecError):
    """The path exists, the method does not; ``allow`` is the header's value."""

    default_reason = errors.Reason.METHOD_NOT_ALLOWED

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message, hint=f"Allowed: {allow}.")
        self.allow = allow


@dataclasses.dataclass(frozen=True, slots=True)
class _Path:
    parts: tuple[str, ...]
    by_method: Mapping[str, Route]

    @property
    def openness(self) -> int:
        return sum(part.startswith("{") for part in self.parts)

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        names = {}
        for want, got in zip(self.parts, parts, strict=True):
            if want.startswith("{"):
                if not got:
                    return None
                names[want[1:-1]] = got
            elif want != got:
                return None
        return names


class Table:
    """Routes, looked up by the number of parts and then in order, literal ones first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        grouped: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            grouped.setdefault(split(route.pattern), {})[route.method] = route
        paths = sorted(
            (_Path(parts, by_method) for parts, by_method in grouped.items()), key=lambda path: path.openness
        )
        self._by_length: dict[int, list[_Path]] = {}
        for path in paths:
            self._by_length.setdefault(len(path.parts), []).append(path)
        self.patterns = sorted(route.pattern for route in routes)

    def find(self, method: str, raw_path: str) -> tuple[Route, Mapping[str, str]]:
        """The route for ``method`` (HEAD counts as GET) and the open parts.

        Raises:
            SpecError: no such path (NotFound).
            MethodNotAllowed: the path takes other methods.
        """
        parts = split(raw_path)
        for path in self._by_length.get(len(parts), ()):
            names = path.match(parts)
            if names is None:
                continue
            route = path.by_method.get("GET" if method == "HEAD" else method)
            if route is None:
                allow = ", ".join(sorted(path.by_method))
                raise MethodNotAllowed(f"{refusals.shorten(raw_path)} does not take {method}.", allow=allow)
            return route, names
        raise errors.SpecError(
            f"there is nothing at {method} {refusals.shorten(raw_path)}.",
            hint="GET / lists what there is.",
            reason=errors.Reason.NOT_FOUND,
        )


def split(raw_path: str) -> tuple[str, ...]:
    """The unquoted parts of a path; one slash at the end is as good as none; a V1 verb becomes a part of its own."""
    parts = raw_path.split("/")[1:]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if parts[:1] == ["v1"] and ":" in parts[-1]:
        name, _, verb = parts[-1].rpartition(":")
        parts[-1:] = [name, f":{verb}"]
    return tuple(urllib.parse.unquote(part) if "%" in part else part for part in parts)
