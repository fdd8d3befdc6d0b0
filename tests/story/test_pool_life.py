"""The life of models in a pool, in virtual time: what is planned, done in the fake world, and told in statuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlship.api import extras
from mlship.api import service as services
from mlship.backends import fake
from mlship.plan import actions, causes, member, member_status, observed, pool, pool_causes, reconcile, trained

POOL = pool.key_of("default", "sklearn")


def declare(
    name: str, *, generation: int = 1, mode: str = "ModelMesh", **annotations: str
) -> services.InferenceService:
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": name,
                "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"serving.kserve.io/deploymentMode": mode, **annotations},
            },
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file:///{name}.pkl"}}},
        }
    )


class Story:
    """One model, its pool, and the loop between them and the fake world."""

    def __init__(self, wish: services.InferenceService) -> None:
        self.world = fake.Fake()
        self.wish = wish
        self.key = observed.ServiceKey("default", wish.name)
        self.deleting = False
        self.status: dict[str, Any] = {}
        self.said: pool.Membership | None = None
        self.last = reconcile.Plan()

    def desired(self) -> reconcile.Desired:
        return reconcile.Desired(self.wish.model_copy(update={"status": self.status}), deleting=self.deleting)

    def look(self) -> reconcile.Plan:
        now = self.world.time.now
        planned = member.plan(self.desired(), self.world.seen(self.key), now)
        self.last, self.said = planned.plan, planned.membership
        self.world.begin(self.key, self.last.actions)
        self.status = self.last.status
        said = [self.said] if self.said is not None else []
        made = pool.plan(
            pool.gather(POOL, said, cores=4),
            self.world.seen(POOL),
            now,
            empty_since=None if said else now - pool.GRACE,
        )
        self.world.begin(POOL, made.actions)
        self.world.route(POOL, made.route)
        return self.last

    def settle(self, seconds: float = 20.0) -> reconcile.Plan:
        for _ in range(int(seconds * 4)):
            self.look()
            self.world.time.advance(0.25)
        return self.look()

    def condition(self, name: str = "Ready") -> dict[str, str]:
        return next(one for one in self.status["conditions"] if one["type"] == name)

    @property
    def model_status(self) -> dict[str, Any]:
        return self.status["modelStatus"]

    def process(self, number: int = 0) -> observed.ReplicaId:
        return self.world.facts(POOL).replicas[number].id

    def why(self) -> list[causes.Cause]:
        state = member_status.State(member.of_service(self.desired()), self.world.seen(self.key), self.world.time.now)
        return list(pool_causes.chain(state, self.status, kind="InferenceService"))


@pytest.fixture
def story() -> Story:
    return Story(declare("iris"))


def test_a_model_is_fetched_enlisted_and_ready_without_being_loaded(story):
    first = story.look()
    assert [type(one) for one in first.actions] == [actions.FetchArtifact]
    assert first.route is not None
    assert first.route.via == POOL
    assert "will be fetched" in first.route.message
    assert story.condition()["status"] == "Unknown"
    assert story.model_status["states"] == {"activeModelState": "Pending", "targetModelState": "Pending"}
    made = story.settle()
    assert story.condition()["status"] == "True"
    assert story.model_status["transitionStatus"] == "UpToDate"
    assert story.model_status["states"] == {"activeModelState": "Standby", "targetModelState": "Standby"}
    assert story.status["deploymentMode"] == "ModelMesh"
    assert story.status["url"] == "http://localhost:8080/serving/default/iris"
    assert (made.route.message, made.route.splits, made.actions) == ("", (), ())
    assert [str(one) for one in story.why()][-1] == "gateway: Routing: http://localhost:8080/serving/default/iris"
    story.world.pools.used(story.key, story.process())
    story.look()
    assert story.model_status["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    assert story.model_status["copies"] == {"totalCopies": 1, "failedCopies": 0}
    assert any("answers from memory" in one.message for one in story.why())


def test_nothing_is_written_while_nothing_changes(story):
    story.settle()
    before = story.status
    story.world.time.advance(100)
    story.look()
    assert story.status == before


def test_new_bytes_are_a_new_entry_and_the_old_one_stays_until_they_are_here(story):
    story.settle()
    story.world.artifacts.put("file:///iris.pkl", "sha256:new")
    assert [type(one) for one in story.look().actions] == [actions.FetchArtifact]
    assert story.world.facts(story.key).enlisted is not None
    enlisted = []
    for _ in range(20):
        enlisted += [one for one in story.look().actions if isinstance(one, actions.EnlistModel)]
        story.world.time.advance(0.25)
    assert [(one.entry.digest, one.why) for one in enlisted] == [("sha256:new", "its bytes have changed")]
    assert story.world.facts(story.key).enlisted.digest == "sha256:new"


def test_what_is_said_of_it_is_part_of_the_entry(story):
    story.settle()
    story.wish = declare("iris", generation=2, **{"mlship.dev/accelerate": "exact"})
    (action,) = story.look().actions
    assert (action.entry.accelerate, action.why) == ("exact", "what is said of it has changed")
    assert story.look().actions == ()


def test_an_update_that_cannot_be_loaded_leaves_the_old_serving_and_says_so(story):
    story.settle()
    story.world.pools.used(story.key, story.process())
    story.world.artifacts.put("file:///iris.pkl", "sha256:bad")
    story.settle()
    story.world.pools.fails(story.key, story.process(), "it is no pickle")
    story.look()
    ready = story.condition()
    assert (ready["status"], ready["reason"]) == ("False", "ModelLoadFailed")
    assert ready["message"] == "it is no pickle. The model before it keeps serving."
    assert story.condition("PredictorReady")["status"] == "True"
    assert story.model_status["transitionStatus"] == "BlockedByFailedLoad"
    assert story.model_status["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    assert story.model_status["lastFailureInfo"]["message"] == "it is no pickle"
    (link,) = [one for one in story.why() if one.state == "cannot be loaded"]
    assert "it is no pickle" in link.message
    assert link.fix
    story.world.artifacts.put("file:///iris.pkl", "sha256:good")
    story.settle()
    story.world.pools.used(story.key, story.process())
    story.look()
    assert story.condition()["status"] == "True"


def test_what_is_said_of_the_bytes_before_is_nothing_against_the_new_ones(story):
    story.settle()
    story.world.pools.fails(story.key, story.process(), "it is no pickle")
    story.look()
    assert story.condition()["reason"] == "ModelLoadFailed"
    story.world.artifacts.put("file:///iris.pkl", "sha256:good")
    story.settle()
    assert story.condition()["status"] == "True"
    assert "lastFailureInfo" not in story.model_status


def test_one_that_ends_its_process_is_quarantined_and_says_what_to_do(story):
    story.settle()
    story.world.pools.fails(story.key, story.process(), "loading it ended the process", quarantined=True)
    story.look()
    assert story.condition()["reason"] == "Quarantined"
    assert "until its bytes change" in story.condition()["message"]
    assert story.condition("PredictorReady")["status"] == "False"
    (link,) = [one for one in story.why() if one.state == "quarantined"]
    assert "process of its own" in link.fix


def test_one_that_another_process_could_load_is_ready(story):
    story.settle()
    story.world.pools.fails(story.key, story.process(0), "no memory")
    story.world.pools.used(story.key, story.process(1))
    story.look()
    assert story.condition()["status"] == "True"
    assert story.model_status["copies"] == {"totalCopies": 1, "failedCopies": 1}


def test_a_pool_without_processes_makes_nobody_ready(story):
    story.settle()
    for one in story.world.facts(POOL).replicas:
        story.world.crash(one.id, code=1, last_line="boom")
    story.look()
    assert story.condition()["reason"] == "PoolRestarting"
    assert "boom" in story.condition()["message"]
    assert any("boom" in str(one) for one in story.why())
    story.settle()
    assert story.condition()["status"] == "True"


def test_a_model_that_cannot_be_fetched_says_so_to_callers(story):
    story.world.artifacts.lose("file:///iris.pkl", error="there is no such file")
    made = story.settle()
    assert story.condition()["reason"] == "ModelFetchFailed"
    assert "there is no such file" in made.route.message
    assert "mlship why iris" in made.route.message
    assert any("there is no such file" in str(one) for one in story.why())


def test_stopped_it_leaves_the_pool_and_keeps_its_bytes(story):
    story.settle()
    story.wish = declare("iris", generation=2, **{"serving.kserve.io/stop": "true"})
    made = story.settle()
    assert story.world.facts(story.key).enlisted is None
    assert story.world.facts(story.key).artifact is not None
    assert story.said is None
    assert "is stopped" in made.route.message
    assert story.condition("Stopped")["status"] == "True"


def test_deleted_it_leaves_the_pool_and_then_forgets_its_bytes(story):
    story.settle()
    story.deleting = True
    assert [type(one) for one in story.look().actions] == [actions.DelistModel]
    assert [type(one) for one in story.look().actions] == [actions.ForgetArtifact]
    assert story.look().finished
    story.settle()
    assert story.world.facts(POOL).replicas == ()


def test_a_spec_that_cannot_be_done_stops_nothing_that_serves(story):
    story.settle()
    story.wish = story.wish.model_copy(
        update={"spec": declare("iris").spec.model_copy(update={"transformer": services.Transformer()})}
    )
    made = story.settle()
    assert story.condition()["reason"] == "InvalidPredictorSpec"
    assert story.world.facts(story.key).enlisted is not None
    assert (made.route.via, made.route.message) == (POOL, "")
    assert story.model_status["transitionStatus"] == "InvalidSpec"


def test_a_spec_that_cannot_be_done_leaves_the_pool_as_large_as_it_was():
    said = {"mlship.dev/pool-processes": "1", "mlship.dev/pool-memory": "1Gi"}
    story = Story(declare("iris", **said))
    story.settle()
    (before,) = story.world.facts(POOL).replicas
    story.wish = declare("iris", generation=2, **said)
    story.wish = story.wish.model_copy(
        update={"spec": story.wish.spec.model_copy(update={"transformer": services.Transformer()})}
    )
    story.settle()
    assert story.condition()["reason"] == "InvalidPredictorSpec"
    assert [one.id for one in story.world.facts(POOL).replicas] == [before.id]


def test_another_format_moves_the_model_to_its_pool(story):
    story.settle()
    spec = {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///iris.pkl"}}}
    story.wish = story.wish.model_copy(update={"spec": services.ServiceSpec.model_validate(spec)})
    made = story.look()
    assert [type(one) for one in made.actions] == [actions.DelistModel, actions.EnlistModel]
    assert story.said.pool == pool.key_of("default", "onnx")


def test_a_service_with_replicas_of_its_own_moves_without_a_gap():
    story = Story(declare("iris", mode="Standard"))
    for _ in range(60):
        made = reconcile.plan(story.desired(), story.world.seen(story.key), story.world.time.now)
        story.world.begin(story.key, made.actions)
        story.world.route(story.key, made.route)
        story.status = made.status
        story.world.time.advance(0.25)
    assert made.route.splits
    story.wish = declare("iris", generation=2)
    for _ in range(80):
        made = story.look()
        served = made.route.splits or (made.route.via == POOL and story.condition("PredictorReady")["status"] == "True")
        assert served, story.status
        story.world.time.advance(0.25)
    assert story.world.facts(story.key).replicas == ()
    assert story.condition()["status"] == "True"


def test_what_was_prepared_for_a_start_of_its_own_ends_in_the_pool_and_before_it_is_gone(story):
    ahead = actions.StandBy(actions.ProcessSpec(argv=("serve",)))
    story.world.begin(story.key, [ahead])
    assert actions.StandDown() in story.look().actions
    assert story.world.facts(story.key).standby == ""
    story.settle()
    story.world.begin(story.key, [ahead])
    story.deleting = True
    assert not story.look().finished
    assert story.settle().finished
    assert story.world.facts(story.key).standby == ""


# TrainedModels.

PARENT = observed.ServiceKey("default", "many")


def parent(**predictor: Any) -> services.InferenceService:
    body = {"sklearn": {}, **predictor}
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "many", "annotations": {"mlship.dev/pool-memory": "1Gi"}},
            "spec": {"predictor": body},
        }
    )


@pytest.mark.parametrize(
    ("wish", "count"), [({}, 1), ({"minReplicas": 3, "maxReplicas": 9}, 3), ({"minReplicas": 0}, 1)]
)
def test_the_processes_of_a_server_of_trained_models_are_not_scaled(wish, count):
    world = fake.Fake()
    busy = observed.Demand(waiting=50, gated=True)
    seen = dataclasses.replace(world.seen(PARENT), demand=busy)
    made = reconcile.plan(reconcile.Desired(parent(**wish)), seen, world.time.now)
    assert sum(isinstance(one, actions.StartReplica) for one in made.actions) == count
    assert made.scaling is None
    assert made.route.gate is None


def model(framework: str = "sklearn", memory: str = "64Mi") -> extras.TrainedModel:
    return extras.TrainedModel.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "TrainedModel",
            "metadata": {"name": "iris", "generation": 1},
            "spec": {
                "inferenceService": "many",
                "model": {"storageUri": "file:///iris.pkl", "framework": framework, "memory": memory},
            },
        }
    )


def conditions(made: reconcile.Plan) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one.get("reason", "")) for one in made.status["conditions"]}


def test_a_trained_model_becomes_an_entry_of_its_parents_pool():
    world, key = fake.Fake(), pool.trained_key("default", "iris")
    desired = trained.Desired(model(), parent())
    for _ in range(60):
        own = reconcile.plan(reconcile.Desired(parent()), world.seen(PARENT), world.time.now)
        world.begin(PARENT, own.actions)
        world.route(PARENT, own.route)
        made = trained.plan(desired, world.seen(key), world.time.now)
        world.begin(key, made.actions)
        world.time.advance(0.25)
    assert own.route.pool is not None
    assert own.status["modelStatus"]["states"]["activeModelState"] == "Loaded"
    assert world.pools.entries[key].memory == 64 * 2**20
    assert made.route is None
    assert conditions(made) == {
        name: ("True", "")
        for name in (
            "Ready",
            "FrameworkSupported",
            "IsMMSPredictor",
            "MemoryResourceAvailable",
            "InferenceServiceReady",
        )
    }
    assert made.status["url"] == "http://localhost:8080/serving/default/many/v2/models/iris"
    gone = trained.Desired(model(), parent(), parent_leaving=True)
    told = trained.plan(gone, world.seen(key), world.time.now)
    assert conditions(told)["InferenceServiceReady"] == ("False", "InferenceServiceDeleted")
    assert conditions(told)["Ready"][0] == "False"
    leaving = trained.Desired(model(), None, deleting=True)
    assert [type(one) for one in trained.plan(leaving, world.seen(key), world.time.now).actions] == [
        actions.DelistModel
    ]


@pytest.mark.parametrize(
    ("wish", "which", "reason"),
    [
        (trained.Desired(model(), None), "IsMMSPredictor", "InferenceServiceNotFound"),
        (
            trained.Desired(model(), parent(sklearn={"storageUri": "file:///a"})),
            "IsMMSPredictor",
            "NotMultiModel",
        ),
        (trained.Desired(model("tensorflow"), parent()), "FrameworkSupported", "FrameworkNotSupported"),
        (trained.Desired(model("onnx"), parent()), "FrameworkSupported", "FrameworkNotSupported"),
        (trained.Desired(model(memory="2Gi"), parent()), "MemoryResourceAvailable", "MemoryResourceNotAvailable"),
    ],
)
def test_a_trained_model_that_cannot_be_says_which_condition_it_fails(wish, which, reason):
    made = trained.plan(wish, observed.Observed(), 1000.0)
    assert made.actions == ()
    assert conditions(made)[which] == ("False", reason)
    assert conditions(made)["Ready"] == ("False", reason)
    state = member_status.State(trained.of_trained(wish), observed.Observed(), 1000.0)
    chain = pool_causes.chain(state, made.status, kind="TrainedModel")
    assert [one.subject for one in chain][-1] == "spec"
