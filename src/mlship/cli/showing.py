"""``mlship list``, ``get``, ``why`` and ``logs``: what is, and why."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from mlship import client, home
from mlship.cli import endpoint, session


def services(where: home.Home, *, namespace: str, output: str) -> None:
    """The services of one namespace or of all, a line each."""
    with session.control(where) as control:
        found = control.list("isvc", namespace=namespace or None)
        if output != "text":
            session.out(session.document(found, form=output))
            return
        if not found:
            session.tell("No services. Deploy one: mlship deploy ./model.pkl")
            return
        base = control.status()["gateway"]["url"]
        now = datetime.datetime.now(datetime.UTC)
        rows = [_row(service, base, now) for service in found]
        session.table(("NAMESPACE", "NAME", "READY", "REPLICAS", "FORMAT", "URL", "AGE"), rows)


def _row(service: Mapping[str, Any], base: str, now: datetime.datetime) -> tuple[str, ...]:
    metadata = service["metadata"]
    ready = client.condition(service, "Ready")
    state = str(ready.get("status", "Unknown"))
    if ready.get("reason"):
        state += f" ({ready['reason']})"
    predictor = service["spec"]["predictor"]
    return (
        metadata["namespace"], metadata["name"], state, _replicas(service), _format(predictor),
        base + endpoint.path_of(service), _age(metadata["creationTimestamp"], now),
    )  # fmt: skip


def _replicas(service: Mapping[str, Any]) -> str:
    copies = ((service.get("status") or {}).get("modelStatus") or {}).get("copies") or {}
    return str(copies.get("totalCopies", 0))


def _format(predictor: Mapping[str, Any]) -> str:
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


def service(where: home.Home, *, name: str, namespace: str, output: str) -> None:
    """One service, for people or as it is stored."""
    with session.control(where) as control:
        found = control.get("isvc", name, namespace=namespace)
        if output != "text":
            session.out(session.document(found, form=output))
            return
        status = found.get("status") or {}
        session.out(f"name     {namespace}/{name}")
        for condition in status.get("conditions") or []:
            text = " ".join(part for part in (condition.get("reason"), condition.get("message")) if part)
            session.out(f"{condition['type']:<22} {condition['status']:<8} {text}".rstrip())
        if client.is_ready(found):
            endpoint.introduce(session.gateway_url(control.status()), found)
        else:
            session.tell(f"See: mlship why {name}")


def why(where: home.Home, *, name: str, namespace: str, output: str) -> None:
    """The causal chain, the root last, and what was done lately."""
    with session.control(where) as control:
        told = control.why(name, namespace=namespace)
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
