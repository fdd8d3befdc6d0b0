"""What a diff shows: the plans that would follow each other."""

from __future__ import annotations

from typing import Any

from mlship.api import service as services
from mlship.backends import fake, rehearsal
from mlship.plan import observed, reconcile

KEY = observed.ServiceKey("default", "iris")


def declare(**predictor: Any) -> services.InferenceService:
    document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"}}
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m"}
    return services.InferenceService.model_validate({**document, "spec": {"predictor": {"model": model, **predictor}}})


def test_a_new_service_is_fetched_and_started() -> None:
    seen = fake.Fake().seen(KEY)
    found = rehearsal.rehearse(reconcile.Desired(declare()), seen, 0.0)
    assert [plan.summary() for plan in found] == [
        "fetch the model; wait for the model",
        "start 1 replica; wait for readiness",
    ]


def test_an_update_starts_the_new_and_then_stops_the_old() -> None:
    world = _after(declare())
    found = rehearsal.rehearse(reconcile.Desired(declare(minReplicas=2)), world, 0.0)
    assert [plan.summary() for plan in found] == ["start 1 replica, keep 1; wait for readiness"]
    wish = declare()
    changed = wish.model_copy(update={"spec": declare(terminationGracePeriodSeconds=5).spec})
    summaries = [plan.summary() for plan in rehearsal.rehearse(reconcile.Desired(changed), world, 0.0)]
    assert summaries == ["start 1 replica, keep 1; wait for readiness", "stop 1 replica, keep 1"]


def test_a_deletion_ends_everything() -> None:
    found = rehearsal.rehearse(reconcile.Desired(declare(), deleting=True), _after(declare()), 0.0)
    assert [plan.summary() for plan in found] == ["stop 1 replica", "forget the model"]


def test_what_is_as_it_shall_be_has_no_plans() -> None:
    assert rehearsal.rehearse(reconcile.Desired(declare()), _after(declare()), 0.0) == ()


def test_a_service_that_never_settles_is_given_up() -> None:
    seen = observed.Observed(artifact=observed.Artifact("file:///m", observed.ArtifactState.FETCHING))
    assert len(rehearsal.rehearse(reconcile.Desired(declare()), seen, 0.0, limit=1)) == 0


def _after(service: services.InferenceService) -> observed.Observed:
    """The world in which this service has settled."""
    world, status = fake.Fake(now=0.0), None
    for _ in range(20):
        wish = reconcile.Desired(service.model_copy(update={"status": status}))
        plan = reconcile.plan(wish, world.seen(KEY), world.time.now)
        world.begin(KEY, plan.actions)
        world.route(KEY, plan.route)
        status = plan.status
        world.time.advance(1.0)
    return world.seen(KEY)
