"""``mlship list``, ``get``, ``why`` and ``logs``: what is, and why."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from mlship import client, errors, home
from mlship.cli import endpoint, naming, session

_EXPLAINED = (*naming.SERVICES, "ScaledObject")


def objects(where: home.Home, *, kind: str, namespace: str, output: str) -> None:
    """The objects of a kind, or the services, of one namespace or of all, a line each."""
    with session.control(where) as control:
        _list(control, naming.kind(control, kind) if kind else None, namespace=namespace, output=output)


def _list(control: client.Client, kind: client.Kind | None, *, namespace: str, output: str) -> None:
    if kind is not None and output == "text" and kind.kind not in naming.SERVICES:
        _print(control.table(kind.plural, namespace=namespace or None), f"There is no {kind.kind}.")
        return
    kinds = naming.SERVICES if kind is None else (kind.plural,)
    found = [one for name in kinds for one in control.list(name, namespace=namespace or None)]
    if output != "text":
        session.out(session.document(found, form=output))
    elif not found and kind is not None:
        session.tell(f"There is no {kind.kind}.")
    elif not found:
        session.tell("No services. Deploy one: mlship deploy ./model.pkl")
    else:
        base = control.status()["gateway"]["url"]
        now = datetime.datetime.now(datetime.UTC)
        rows = [_row(service, base, now) for service in found]
        session.table(("NAMESPACE", "NAME", "READY", "REPLICAS", "FORMAT", "URL", "AGE"), rows)


def _print(table: Mapping[str, Any], nothing: str) -> None:
    """A Table of the server, whose columns are those of ``kubectl get``."""
    if not table["rows"]:
        session.tell(nothing)
        return
    shown, rows = _columns(table)
    places = [row["object"]["metadata"].get("namespace") for row in table["rows"]]
    if any(places):
        shown, rows = ["Namespace", *shown], [[place, *row] for place, row in zip(places, rows, strict=True)]
    session.table(tuple(one.upper() for one in shown), [tuple(str(cell) for cell in row) for row in rows])


def _columns(table: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    chosen = [at for at, one in enumerate(table["columnDefinitions"]) if not one["priority"]]
    names = [table["columnDefinitions"][at]["name"] for at in chosen]
    return names, [[row["cells"][at] for at in chosen] for row in table["rows"]]


def _row(service: Mapping[str, Any], base: str, now: datetime.datetime) -> tuple[str, ...]:
    metadata = service["metadata"]
    ready = client.condition(service, "Ready")
    state = str(ready.get("status", "Unknown"))
    if ready.get("reason"):
        state += f" ({ready['reason']})"
    return (
        metadata["namespace"], metadata["name"], state, _replicas(service), _format(service["spec"]),
        base + endpoint.path_of(service), _age(metadata["creationTimestamp"], now),
    )  # fmt: skip


def _replicas(service: Mapping[str, Any]) -> str:
    copies = ((service.get("status") or {}).get("modelStatus") or {}).get("copies") or {}
    return str(copies.get("totalCopies", 0))


def _format(spec: Mapping[str, Any]) -> str:
    if "predictor" not in spec:
        return str(spec["model"]["framework"])
    predictor = spec["predictor"]
    model = predictor.get("model")
    if model:
        return str(model["modelFormat"]["name"])
    return "custom" if "containers" in predictor else next(iter(predictor), "")


def _age(created: str, now: datetime.datetime) -> str:
    seconds = int((now - datetime.datetime.fromisoformat(created)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def get(where: home.Home, *, words: Sequence[str], namespace: str, output: str) -> None:
    """What is named, for people or as it is stored; of a kind alone, its objects."""
    with session.control(where) as control:
        named = naming.parse(control, words, services=False)
        try:
            found = [one.read(control, namespace=namespace) for one in named]
        except errors.SpecError as error:
            if error.reason is not errors.Reason.NOT_FOUND or "/" in words[0] or len(words) > 1:
                raise
            kind = control.kind(words[0])
            if kind is None:
                raise
            _list(control, naming.kind(control, words[0]), namespace=namespace, output=output)
            return
        if output != "text":
            session.out(session.document(found[0] if len(found) == 1 else found, form=output))
            return
        for index, body in enumerate(found):
            if index:
                session.out()
            _show(control, body, namespace=namespace)


def _show(control: client.Client, body: client.Object, *, namespace: str) -> None:
    metadata, kind = body["metadata"], body["kind"]
    space = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    session.out(f"name     {space}{metadata['name']}")
    if kind not in naming.SERVICES:
        names, rows = _columns(control.table(kind, namespace=namespace, name=metadata["name"]))
        for name, cell in list(zip(names, rows[0], strict=True))[1:]:
            session.out(f"{name:<22} {cell}".rstrip())
    for condition in (body.get("status") or {}).get("conditions") or []:
        text = " ".join(part for part in (condition.get("reason"), condition.get("message")) if part)
        session.out(f"{condition['type']:<22} {condition['status']:<8} {text}".rstrip())
    if kind not in naming.SERVICES:
        return
    if client.is_ready(body):
        endpoint.introduce(control, body)
    else:
        session.tell(f"See: mlship why {metadata['name']}")


def why(where: home.Home, *, words: Sequence[str], namespace: str, output: str) -> None:
    """The causal chain, the root last, and what was done lately."""
    with session.control(where) as control:
        told = _explained(control, words, namespace=namespace)
        if output != "text":
            session.out(session.document(told, form=output))
            return
        for depth, cause in enumerate(told["chain"]):
            lead = "" if depth == 0 else "   " * (depth - 1) + "└─ "
            session.out(f"{lead}{cause['text']}")
            if cause["hint"]:
                session.out(f"{'   ' * depth}   fix: {cause['hint']}")
        if told["journal"]:
            session.out("\nlately:")
        for entry in told["journal"][-10:]:
            session.out(f"  {_moment(entry)}  {entry.get('summary') or ''}".rstrip())


def _explained(control: client.Client, words: Sequence[str], *, namespace: str) -> client.Object:
    named = naming.parse(control, words, services=False)
    if len(named) > 1:
        raise errors.SpecError("why explains one object at a time.")
    one = named[0]
    if one.kind is None:
        return control.why(one.name, namespace=namespace)
    if one.kind.kind not in _EXPLAINED:
        raise errors.SpecError(
            f"A {one.kind.kind} has no state that could be explained.", hint=f"Ask for {', '.join(_EXPLAINED)}."
        )
    return control.why(one.name, namespace=namespace, kind=one.kind.plural)


def _moment(entry: Mapping[str, Any]) -> str:
    at = entry.get("at", entry.get("time"))
    if isinstance(at, int | float):
        return datetime.datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
    return str(at or "")


def logs(where: home.Home, *, name: str, namespace: str, tail: int, follow: bool) -> None:
    """The replicas' output as it comes."""
    with session.control(where) as control:
        for line in control.logs(name, namespace=namespace, tail=tail, follow=follow):
            session.out(line)
