"""Worlds and the plans made in them, as files: ``tests/golden/plan/NAME.in.yaml`` -> ``NAME.out.yaml``.

``$newest`` in a file stands for the newest revision and ``$program`` for its program: their hashes do not matter here.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import actions, observed, reconcile

FOLDER = pathlib.Path(__file__).parents[2] / "golden" / "plan"
CASES = sorted(path.name.removesuffix(".in.yaml") for path in FOLDER.glob("*.in.yaml"))


def endpoint(text: str | None) -> observed.Endpoint | None:
    return None if text is None else observed.Endpoint(f"unix:/run/{text}.http", f"unix:/run/{text}.grpc")


def replica(service: observed.ServiceKey, found: dict[str, Any]) -> observed.Replica:
    ended = found.pop("last_exit", None)
    return observed.Replica(
        id=observed.ReplicaId(service, found.pop("revision"), found.pop("ordinal")),
        phase=observed.Phase(found.pop("phase")),
        endpoint=endpoint(found.pop("endpoint", None)),
        last_exit=None if ended is None else observed.Exit(**ended),
        **found,
    )


def world(service: observed.ServiceKey, given: dict[str, Any]) -> observed.Observed:
    artifact = given.get("artifact")
    if artifact is not None:
        artifact = observed.Artifact(**{**artifact, "state": observed.ArtifactState(artifact["state"])})
    gateway = dict(given.get("gateway", {}))
    applied = frozenset(filter(None, map(endpoint, gateway.pop("applied", []))))
    return observed.Observed(
        replicas=tuple(replica(service, one) for one in given.get("replicas", [])),
        artifact=artifact,
        gateway=observed.Gateway(applied=applied, **gateway),
    )


def desired(given: dict[str, Any]) -> reconcile.Desired:
    return reconcile.Desired(
        service=services.InferenceService.model_validate(given["service"]),
        namespaced=tuple(runtimes.ServingRuntime.model_validate(one) for one in given.get("namespaced", [])),
        cluster=tuple(runtimes.ClusterServingRuntime.model_validate(one) for one in given.get("cluster", [])),
        deleting=given.get("deleting", False),
    )


def shown(action: actions.Action) -> Any:
    if not isinstance(action, actions.StartReplica):
        return str(action)
    spec = dataclasses.asdict(action.spec)
    spec["env"] = {name: str(value) for name, value in action.spec.env}
    spec["argv"] = " ".join(action.spec.argv)
    return {str(action): {**spec, "model_path": action.model_path}}


def told(plan: reconcile.Plan) -> dict[str, Any]:
    route = None
    if plan.route is not None:
        splits = [
            {"revision": one.revision, "weight": one.weight, "endpoints": [place.http for place in one.endpoints]}
            for one in plan.route.splits
        ]
        gate = {} if plan.route.gate is None else {"gate": dataclasses.asdict(plan.route.gate)}
        route = {"timeout": plan.route.timeout, "splits": splits, "message": plan.route.message, **gate}
    return {
        "summary": plan.summary(),
        "actions": [shown(one) for one in plan.actions],
        "route": route,
        "why": list(plan.why),
        "wake_at": plan.wake_at,
        "finished": plan.finished,
        "status": plan.status,
    }


def newest_of(given: dict[str, Any]) -> str:
    only_artifact = {**given.get("observed", {}), "replicas": []}
    wish = desired(given)
    plan = reconcile.plan(dataclasses.replace(wish, deleting=False), world(_key(wish), only_artifact), 0.0)
    return str(plan.status["components"]["predictor"].get("latestCreatedRevision", ""))


def _key(wish: reconcile.Desired) -> observed.ServiceKey:
    return observed.ServiceKey(wish.service.namespace, wish.service.name)


def swapped(value: Any, old: str, new: str) -> Any:
    """``value`` with ``new`` for ``old`` in all its texts; in YAML a hash of digits would be a number."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list | tuple):
        return [swapped(one, old, new) for one in value]
    if isinstance(value, dict):
        return {swapped(key, old, new): swapped(one, old, new) for key, one in value.items()}
    return value


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, golden: Callable[[pathlib.Path, str], None]) -> None:
    given = yaml.safe_load((FOLDER / f"{name}.in.yaml").read_text())
    newest = newest_of(given) or "$newest"
    given = swapped(given, "$newest", newest)
    wish = desired(given)
    plan = reconcile.plan(wish, world(_key(wish), given.get("observed", {})), given["now"])
    if "newest" in plan.status["mlship"]:
        plan.status["mlship"]["newest"]["program"] = "$program"
    found = swapped(told(plan), newest, "$newest")
    golden(FOLDER / f"{name}.out.yaml", yaml.safe_dump(found, sort_keys=False, width=120, allow_unicode=True))


def test_there_are_cases_and_no_outputs_without_one() -> None:
    assert len(CASES) >= 8
    assert {path.name.removesuffix(".out.yaml") for path in FOLDER.glob("*.out.yaml")} <= set(CASES)
