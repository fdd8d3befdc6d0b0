"""The chain behind ``mlship why``: from the condition to the root, with a fix at its end."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlship.api import service as services
from mlship.backends import fake
from mlship.plan import actions, causes, observed, reconcile

URI = "file:///models/iris.pkl"
KEY = observed.ServiceKey("default", "iris")


def declare(**more: Any) -> services.InferenceService:
    predictor = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}, **more.pop("predictor", {})}
    metadata = {"name": "iris", "generation": 1, **more}
    document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata}
    return services.InferenceService.model_validate({**document, "spec": {"predictor": predictor}})


def live(world: fake.Fake, service: services.InferenceService, *, turns: int = 12) -> dict[str, Any]:
    """Some turns of the loop; the last status."""
    status: dict[str, Any] | None = None
    for _ in range(turns):
        wish = reconcile.Desired(service.model_copy(update={"status": status}))
        plan = reconcile.plan(wish, world.seen(KEY), world.time.now)
        world.begin(KEY, plan.actions)
        world.route(KEY, plan.route)
        status = plan.status
        world.time.advance(1.0)
    assert status is not None
    return status


def why(world: fake.Fake, service: services.InferenceService, status: Any) -> tuple[causes.Cause, ...]:
    return causes.chain(service, world.seen(KEY), status, world.time.now)


def ending(line: str, *, code: int | None = 65, signal: int | None = None) -> tuple[causes.Cause, ...]:
    """The chain of a service whose replicas end like this."""
    world, service = fake.Fake(), declare()
    world.artifacts.put(URI, "sha256:bad")
    world.outcome("sha256:bad", fake.Outcome(observed.Exit(at=0.0, code=code, signal=signal, last_line=line)))
    return why(world, service, live(world, service))


def test_a_healthy_service_says_what_serves_since_when_and_where() -> None:
    world, service = fake.Fake(), declare(predictor={"minReplicas": 2})
    head, serving, gateway = why(world, service, live(world, service))
    assert (head.subject, head.state) == ("InferenceService default/iris", "Ready")
    assert serving.message.startswith("2 replicas serve since 20")
    assert gateway.message == "http://localhost:8080/serving/default/iris"
    assert not any(cause.fix for cause in (head, serving, gateway))


def test_a_recovered_replica_is_still_told_of_for_a_while() -> None:
    world, service = fake.Fake(), declare()
    live(world, service)
    world.crash(world.facts(KEY).replicas[0].id, signal=9)
    status = live(world, service)
    (restarted,) = [cause for cause in why(world, service, status) if cause.state == "Restarted"]
    assert "SIGKILL" in restarted.message
    assert "memory" in restarted.fix
    world.time.advance(3600.0)
    assert not [cause for cause in why(world, service, status) if cause.state == "Restarted"]


def test_a_model_that_cannot_be_loaded_ends_in_its_error_line_and_fix() -> None:
    line = "model \"iris\" version 1 needs a module that is not installed: No module named 'lightgbm'."
    chain = ending(line)
    assert chain[0].state == "NotReady"
    assert line in chain[0].message
    assert chain[1].subject == "condition LatestDeploymentReady"
    assert chain[1].message == "", "what the head says is not said again"
    assert chain[-1].subject == "last error line"
    assert "pip install lightgbm" in chain[-1].fix


def test_a_killed_process_without_a_line_is_explained_by_its_signal() -> None:
    last = ending("", code=None, signal=9)[-1]
    assert last.state == "SIGKILL"
    assert "memory" in last.fix


def test_an_unknown_line_is_quoted_and_the_logs_are_named() -> None:
    last = ending("the cat sat on the keyboard", code=1)[-1]
    assert last.message == "the cat sat on the keyboard"
    assert "mlship logs iris" in last.fix


def test_a_model_that_cannot_be_fetched_is_the_root() -> None:
    world, service = fake.Fake(), declare()
    world.artifacts.lose(URI, error="https://h/m.pkl: there is nothing at this address (404).", retry_after=600.0)
    last = why(world, service, live(world, service))[-1]
    assert (last.subject, last.state) == (f"model {URI}", "Failed")
    assert "The next try is at 20" in last.message
    assert "case-sensitive" in last.fix


def test_a_model_on_its_way_is_told_with_its_bytes() -> None:
    world, service = fake.Fake(fetch_seconds=100.0), declare()
    last = why(world, service, live(world, service))[-1]
    assert last.state == "Fetching"


def test_a_gateway_that_is_down_is_the_root() -> None:
    world, service = fake.Fake(), declare()
    live(world, service)
    world.gateway_running = False
    chain = why(world, service, live(world, service))
    assert [cause.subject for cause in chain][1:] == ["condition IngressReady", "gateway"]
    assert chain[-1].state == "Down"
    assert chain[-1].fix


def test_a_port_that_is_taken_is_named_for_the_gateway() -> None:
    service = declare()
    down = observed.Observed(gateway=observed.Gateway(message="127.0.0.1:8080: Address already in use"))
    plan = reconcile.plan(reconcile.Desired(service), down, 0.0)
    assert "--port auto" in causes.chain(service, down, plan.status, 0.0)[-1].fix


def test_a_slow_start_is_told_with_what_the_probe_says() -> None:
    world, service = fake.Fake(), declare()
    world.artifacts.put(URI, "sha256:slow")
    world.outcome("sha256:slow", fake.Outcome(hangs=True, message="does not listen yet"))
    last = why(world, service, live(world, service, turns=60))[-1]
    assert last.state == "starting"
    assert "does not listen yet" in last.message
    assert "$PORT" in last.fix


def test_a_failing_probe_is_told() -> None:
    world, service = fake.Fake(), declare()
    live(world, service)
    world.unready(world.facts(KEY).replicas[0].id, "answers 503: overloaded")
    last = why(world, service, live(world, service, turns=2))[-1]
    assert (last.state, last.message) == ("running, not ready", "answers 503: overloaded")


def test_many_sick_replicas_are_counted_not_listed() -> None:
    world, service = fake.Fake(), declare(predictor={"minReplicas": 5})
    world.artifacts.put(URI, "sha256:bad")
    world.outcome("sha256:bad", fake.Outcome(observed.Exit(at=0.0, code=65, last_line="boom")))
    chain = why(world, service, live(world, service))
    assert len([cause for cause in chain if cause.subject.startswith("replica default/")]) == 3
    assert chain[-1].message == "2 more are not ready."


def test_a_stopped_service_says_how_to_start_it() -> None:
    world, service = fake.Fake(), declare(annotations={"serving.kserve.io/stop": "true"})
    assert "Remove the annotation" in why(world, service, live(world, service))[-1].fix


def test_a_spec_that_cannot_be_carried_out_is_the_root() -> None:
    world = fake.Fake()
    service = declare(predictor={"model": {"modelFormat": {"name": "cobol"}, "storageUri": URI}})
    last = why(world, service, live(world, service))[-1]
    assert (last.subject, last.state) == ("spec", "Invalid")
    assert "cobol" in last.message
    assert last.fix


def test_a_spec_newer_than_the_status_is_said() -> None:
    world, service = fake.Fake(), declare()
    status = live(world, service)
    (only,) = why(world, declare(generation=2), status)
    assert only.state == "NotLookedAt"
    assert why(world, service, None)[0].state == "NotLookedAt"
    assert why(world, service, {"conditions": "nonsense"})[0].state == "NotLookedAt"


def test_a_cause_prints_itself() -> None:
    cause = causes.Cause("gateway", "Down", "Envoy is gone.", "Start it.")
    assert str(cause) == "gateway: Down: Envoy is gone. Fix: Start it."
    assert str(actions.ForgetArtifact("https://u:p@h/m?sig=1")) == "forget https://(hidden)@h/m?(hidden)"


def test_a_healthy_service_says_who_answers() -> None:
    world, service = fake.Fake(), declare()
    stored = live(world, service)
    seen = world.seen(KEY)
    for state, told in (("compiled", True), ("off", False)):
        said = observed.Acceleration(observed.Answering(state), "auto", rows=9)
        ready = tuple(dataclasses.replace(one, acceleration=said) for one in seen.replicas)
        chain = causes.chain(service, dataclasses.replace(seen, replicas=ready), stored, world.time.now)
        assert any(cause.subject == "compiled form" for cause in chain) is told
