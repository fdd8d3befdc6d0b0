"""Single decisions of the plan; its life is told in ``tests/story``, its limits in ``tests/property``."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import actions, observed, reconcile

URI = "file:///models/iris.pkl"
KEY = observed.ServiceKey("default", "iris")
READY = observed.Artifact(URI, observed.ArtifactState.READY, digest="sha256:aa", path="/cache/aa")
NOW = 1000.0


def declare(predictor: dict[str, Any] | None = None, **metadata: Any) -> services.InferenceService:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": URI}
    document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    spec = {"predictor": predictor or {"model": model}}
    return services.InferenceService.model_validate(
        {**document, "metadata": {"name": "iris", **metadata}, "spec": spec}
    )


def plan(
    service: services.InferenceService | None = None,
    artifact: observed.Artifact | None = READY,
    **more: Any,
) -> reconcile.Plan:
    seen = observed.Observed(artifact=artifact, gateway=observed.Gateway(running=True, url="http://h:1"))
    return reconcile.plan(reconcile.Desired(service or declare(), **more), seen, NOW)


def fetches(artifact: observed.Artifact | None) -> tuple[bool, float | None]:
    made = plan(artifact=artifact)
    return any(isinstance(one, actions.FetchArtifact) for one in made.actions), made.wake_at


FAILED = observed.Artifact(URI, observed.ArtifactState.FAILED, error="404")


@pytest.mark.parametrize(
    ("artifact", "fetch", "wake_at"),
    [
        (None, True, None),
        (READY, False, None),
        (dataclasses.replace(READY, uri="file:///other"), True, None),
        (dataclasses.replace(READY, stale=True), True, None),
        (dataclasses.replace(READY, stale=True, error="404", retry_at=NOW + 5), False, NOW + 5),
        (dataclasses.replace(READY, error="404", retry_at=NOW + 5), False, NOW + 5),
        (dataclasses.replace(READY, error="404", retry_at=NOW), True, None),
        (dataclasses.replace(READY, error="404"), False, None),
        (FAILED, False, None),
        (dataclasses.replace(FAILED, stale=True), True, None),
        (dataclasses.replace(FAILED, retry_at=NOW - 1), True, None),
        (dataclasses.replace(FAILED, retry_at=NOW + 1), False, NOW + 1),
        (observed.Artifact(URI, observed.ArtifactState.FETCHING, stale=True), False, None),
    ],
)
def test_when_the_model_is_fetched(artifact: observed.Artifact | None, fetch: bool, wake_at: float | None) -> None:
    assert fetches(artifact) == (fetch, wake_at)


def test_a_start_names_everything_a_backend_needs() -> None:
    (start,) = plan().actions
    assert isinstance(start, actions.StartReplica)
    assert (start.id.service, start.id.ordinal) == (KEY, 0)
    assert (start.model_path, start.digest) == ("/cache/aa", "sha256:aa")


def test_a_container_without_a_model_fetches_none_and_forgets_the_one_before() -> None:
    bare = declare({"containers": [{"name": "c", "command": ["serve"]}]})
    forget, start = plan(bare).actions
    assert isinstance(forget, actions.ForgetArtifact)
    assert isinstance(start, actions.StartReplica)
    assert start.model_path == ""
    assert [type(one) for one in plan(bare, artifact=None).actions] == [actions.StartReplica]


def test_the_users_own_runtime_comes_before_ours() -> None:
    mine = runtimes.ServingRuntime.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "mine", "namespace": "default"},
            "spec": {
                "supportedModelFormats": [{"name": "sklearn", "autoSelect": True}],
                "protocolVersions": ["v1", "v2"],
                "containers": [{"name": "c", "command": ["mine"]}],
            },
        }
    )
    made = plan(namespaced=(mine,))
    assert made.status["servingRuntimeName"] == "mine"
    (start,) = made.actions
    assert isinstance(start, actions.StartReplica)
    assert start.spec.argv == ("mine",)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"modelFormat": {"name": "cobol"}, "storageUri": URI}, "NoSupportingRuntime"),
        ({"modelFormat": {"name": "sklearn"}, "storageUri": URI, "runtime": "nobody"}, "RuntimeNotRecognized"),
        ({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m"}, "InvalidPredictorSpec"),
    ],
)
def test_a_spec_that_cannot_be_carried_out_is_a_status(model: dict[str, Any], reason: str) -> None:
    made = plan(declare({"model": model}))
    assert made.actions == ()
    assert made.status["modelStatus"]["transitionStatus"] == "InvalidSpec"
    assert made.status["modelStatus"]["lastFailureInfo"]["reason"] == reason
    assert made.route is not None
    assert made.route.splits == ()
    assert "mlship why iris" in made.route.message


def test_a_disabled_runtime_is_named_as_that() -> None:
    off = runtimes.ServingRuntime.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "off"},
            "spec": {"disabled": True, "containers": [{"name": "c", "command": ["x"]}]},
        }
    )
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": URI, "runtime": "off"}
    info = plan(declare({"model": model}), namespaced=(off,)).status["modelStatus"]["lastFailureInfo"]
    assert info["reason"] == "RuntimeDisabled"


def test_the_route_carries_age_and_timeout() -> None:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": URI}
    made = plan(declare({"model": model, "timeout": 7}, creationTimestamp="2026-01-01T00:00:00Z"))
    assert made.route is not None
    assert (made.route.created, made.route.timeout) == ("2026-01-01T00:00:00Z", 7.0)


def test_a_service_that_was_never_there_is_finished_at_once() -> None:
    made = plan(artifact=None, deleting=True)
    assert (made.finished, made.actions, made.route) == (True, (), None)
    assert made.summary() == "everything is gone"


def test_a_deleted_service_that_is_not_understood_can_still_go() -> None:
    made = plan(declare({"model": {"modelFormat": {"name": "cobol"}, "storageUri": "x://y"}}), deleting=True)
    assert [type(one) for one in made.actions] == [actions.ForgetArtifact]
    assert not made.finished


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (reconcile.Plan(), "nothing to do"),
        (reconcile.Plan(keep=1), "keep 1 replica"),
        (
            reconcile.Plan(actions=(actions.FetchArtifact("x"),), waits=("the model",)),
            "fetch the model; wait for the model",
        ),
        (
            reconcile.Plan(
                actions=(actions.StopReplica(observed.ReplicaId(KEY, "a", 0)), actions.ForgetArtifact("x")), keep=2
            ),
            "stop 1 replica, forget the model, keep 2",
        ),
        (reconcile.Plan(waits=("a", "b")), "nothing to do; wait for a and b"),
    ],
)
def test_a_plan_says_itself_in_one_sentence(made: reconcile.Plan, said: str) -> None:
    assert made.summary() == said


@pytest.fixture
def zero_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a spec is refused is for ``api.honour`` to say; here is what the plan does with one that is not."""
    monkeypatch.setattr(reconcile.honour, "refusals", lambda *_, **__: ())


def asleep(**annotations: str) -> services.InferenceService:
    predictor = {"minReplicas": 0, "model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}}
    return declare(predictor, annotations=annotations)


def sleeping(artifact: observed.Artifact | None = READY, *, standby: str = "", **annotations: str) -> reconcile.Plan:
    seen = observed.Observed(artifact=artifact, gateway=observed.Gateway(running=True), standby=standby)
    return reconcile.plan(reconcile.Desired(asleep(**annotations)), seen, NOW)


@pytest.mark.usefixtures("zero_is_honoured")
def test_a_service_at_zero_has_its_model_fetched_before_anybody_calls() -> None:
    assert any(isinstance(one, actions.FetchArtifact) for one in sleeping(None).actions)
    changed = sleeping(dataclasses.replace(READY, stale=True))
    assert any(isinstance(one, actions.FetchArtifact) for one in changed.actions)
    assert sleeping(dataclasses.replace(READY, stale=True, error="404", retry_at=NOW + 5)).wake_at == NOW + 5


@pytest.mark.usefixtures("zero_is_honoured")
def test_a_service_at_zero_has_its_start_prepared_once() -> None:
    (ahead,) = sleeping().actions
    assert isinstance(ahead, actions.StandBy)
    assert ahead.spec.argv[:3] == ("python", "-m", "mlship.server.main")
    assert sleeping(standby=ahead.token).actions == ()
    assert sleeping(standby="of another spec").actions == (ahead,)
    assert "stand by" in sleeping().summary()


@pytest.mark.usefixtures("zero_is_honoured")
def test_a_stopped_service_waits_for_nobody() -> None:
    assert sleeping(None, **{"serving.kserve.io/stop": "true"}).actions == ()


def test_a_service_that_runs_needs_nothing_prepared() -> None:
    assert not any(isinstance(one, actions.StandBy) for one in plan().actions)


def test_a_deleted_service_stands_down_before_it_is_finished() -> None:
    def leaving(seen: observed.Observed) -> reconcile.Plan:
        return reconcile.plan(reconcile.Desired(asleep(), deleting=True), seen, NOW)

    made = leaving(observed.Observed(artifact=READY, standby="x"))
    assert made.actions == (actions.ForgetArtifact(URI), actions.StandDown())
    assert not made.finished
    assert not leaving(observed.Observed(standby="x")).finished
    assert leaving(observed.Observed()).finished
