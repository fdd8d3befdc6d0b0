"""What a plan never does, and where it always ends: from any world, and through a life with crashes."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis
from hypothesis import strategies as st

from mlship.api import service as services
from mlship.backends import consistency, fake
from mlship.plan import actions, observed, reconcile, replicas, routes
from mlship.scale import readings

KEY = observed.ServiceKey("default", "iris")
URI = "file:///models/iris.pkl"
DIGESTS = ("sha256:aa", "sha256:bb")
NOW = 1_700_000_000.0
Phase, State = observed.Phase, observed.ArtifactState


def declare(
    wanted: int = 1, *, more: int = 0, variant: str = "", stop: bool = False, status: Any = None
) -> services.InferenceService:
    env = [{"name": "VARIANT", "value": variant}] if variant else []
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": URI, "env": env}
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "annotations": {"serving.kserve.io/stop": "true"} if stop else {}},
            "spec": {"predictor": {"model": model, "minReplicas": wanted, "maxReplicas": max(wanted + more, 1)}},
            "status": status,
        }
    )


def revision_of(service: services.InferenceService, digest: str) -> str:
    """The revision a service has on an artifact, found by asking for it."""
    artifact = observed.Artifact(URI, State.READY, digest=digest, path="/cache/x")
    plan = reconcile.plan(reconcile.Desired(service), observed.Observed(artifact=artifact), NOW)
    return str(plan.status["components"]["predictor"]["latestCreatedRevision"])


REVISIONS = tuple(revision_of(declare(variant=variant), digest) for variant in ("", "b") for digest in DIGESTS)

variants = st.sampled_from(["", "b"])
stops = st.sampled_from([False, False, False, True])
wishes = st.builds(declare, st.integers(0, 3), more=st.integers(0, 3), variant=variants, stop=stops)
# Of these the number is given, so that a life with them comes to rest.
settled_wishes = st.builds(declare, st.integers(1, 3), variant=variants, stop=stops)
values = st.none() | st.floats(0, 100)
demands = st.builds(
    observed.Demand,
    metrics=st.fixed_dictionaries(
        {"concurrency": st.builds(readings.Reading, values, values, st.sampled_from([0.0, 0.5, 1.0]))}
    ),
    waiting=st.integers(0, 2),
    busy=st.none() | st.booleans(),
    gated=st.booleans(),
)
exits = st.builds(
    observed.Exit,
    at=st.floats(0, NOW),
    code=st.sampled_from([None, 0, 1, 65, 137]),
    signal=st.sampled_from([None, 9, 11, 99]),
    last_line=st.sampled_from(["", "boom", "ImportError: nothing"]),
)


@st.composite
def replica(draw: st.DrawFn, key: observed.ReplicaId) -> observed.Replica:
    phase = draw(st.sampled_from([one for one in Phase if one is not Phase.STOPPED]))
    live = phase in (Phase.RUNNING, Phase.STARTING, Phase.TERMINATING, Phase.KILLING)
    ready = phase is Phase.RUNNING and draw(st.booleans())
    place = observed.Endpoint(f"unix:/run/{key.revision}-{key.ordinal}.http", f"unix:/run/{key.revision}.grpc")
    return observed.Replica(
        id=key,
        phase=phase,
        since=draw(st.floats(0, NOW)),
        ready=ready,
        endpoint=place if ready or live or draw(st.booleans()) else None,
        pid=draw(st.integers(2, 99999)) if live else None,
        restarts=draw(st.integers(0, 9)),
        last_exit=draw(st.none() | exits),
        restart_at=NOW + draw(st.floats(0, 60)) if phase is Phase.BACKOFF else None,
        message=draw(st.sampled_from(["", "answers 503: loading"])),
    )


@st.composite
def artifacts(draw: st.DrawFn) -> observed.Artifact | None:
    state = draw(st.none() | st.sampled_from(list(State)))
    if state is None:
        return None
    digest = draw(st.sampled_from(DIGESTS))
    error = draw(st.sampled_from(["", "404"])) if state is not State.FAILED else "404"
    return observed.Artifact(
        uri=draw(st.sampled_from([URI, URI, URI, "file:///before.pkl"])),
        state=state,
        digest=digest if state is State.READY else "",
        path=f"/cache/{digest}" if state is State.READY else "",
        done=draw(st.integers(0, 10)),
        total=draw(st.none() | st.integers(0, 10)),
        stale=draw(st.booleans()),
        error=error,
        retry_at=draw(st.none() | st.floats(NOW - 60, NOW + 60)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> observed.Observed:
    ids = draw(st.sets(st.tuples(st.sampled_from(REVISIONS), st.integers(0, 4)), max_size=7))
    found = tuple(draw(replica(observed.ReplicaId(KEY, *one))) for one in sorted(ids))
    running = draw(st.booleans())
    places = [one.endpoint for one in found if one.endpoint is not None]
    applied = frozenset(draw(st.sets(st.sampled_from(places)))) if running and places else frozenset()
    return observed.Observed(
        replicas=found,
        artifact=draw(artifacts()),
        gateway=observed.Gateway(running=running, url="http://localhost:8080", applied=applied),
        demand=draw(demands),
    )


@st.composite
def memories(draw: st.DrawFn) -> dict[str, Any] | None:
    """A status from before: none, a true one, one of another life, or nonsense."""
    kind = draw(st.sampled_from(["none", "true", "nonsense"]))
    if kind == "none":
        return None
    if kind == "nonsense":
        text = st.sampled_from(["", "x", 3, None, {}, []])
        return {
            "conditions": draw(text),
            "components": draw(text),
            "mlship": {"newest": {"revision": draw(text), "uri": draw(text), "digest": 1, "program": "p"}},
        }
    artifact = observed.Artifact(URI, State.READY, digest=draw(st.sampled_from(DIGESTS)), path="/cache/x")
    service = declare(variant=draw(st.sampled_from(["", "b"])))
    status = reconcile.plan(reconcile.Desired(service), observed.Observed(artifact=artifact), NOW - 100).status
    status["components"]["predictor"]["latestReadyRevision"] = draw(st.sampled_from(REVISIONS))
    return status


def check(desired: reconcile.Desired, seen: observed.Observed, plan: reconcile.Plan) -> None:
    """All that never happens."""
    by_id = {one.id: one for one in seen.replicas}
    _check_actions(desired, seen, plan, by_id)
    route = plan.route
    assert (route is None) == desired.deleting
    if route is not None:
        _check_route(route, by_id)
    _check_ready(seen, plan)


def _check_actions(
    desired: reconcile.Desired,
    seen: observed.Observed,
    plan: reconcile.Plan,
    by_id: dict[observed.ReplicaId, observed.Replica],
) -> None:
    starts = [one.id for one in plan.actions if isinstance(one, actions.StartReplica)]
    stops = [one.id for one in plan.actions if isinstance(one, actions.StopReplica)]
    effective = services.effective(desired.service)
    wanted = plan.status["mlship"]["replicas"]["wanted"]
    if desired.deleting or effective.stopped:
        assert wanted == 0
    else:
        assert effective.min_replicas <= wanted <= max(effective.max_replicas, 1)
        assert desired.service.spec.predictor.min_replicas == 0 or wanted > 0
    assert all(one not in by_id or by_id[one].phase is Phase.EXITED for one in starts), "started what is there"
    assert len(set(starts)) == len(starts)
    assert all(0 <= one.ordinal < wanted + len(by_id) for one in starts)
    routed = {one for split in plan.route.splits for one in split.endpoints} if plan.route else set()
    for one in stops:
        place = by_id[one].endpoint
        assert not (seen.gateway.running and place in seen.gateway.applied), "stopped while the gateway routes to it"
        assert place not in routed, "stopped while it gets traffic"
    ending = {one.id for one in seen.replicas if one.phase in (Phase.TERMINATING, Phase.KILLING)}
    draining = {
        one.id
        for one in seen.replicas
        if one.id not in stops and seen.gateway.running and one.endpoint in seen.gateway.applied
    }
    assert not ending & set(stops)
    stay = set(by_id) - set(stops) - ending - draining
    newest = plan.status["components"]["predictor"].get("latestCreatedRevision", "")
    if newest and not desired.deleting:
        fresh = {one for one in (*stay, *starts) if one.revision == newest}
        up = [one for one in stay if one.revision == newest and by_id[one].phase not in (Phase.EXITED, Phase.RUNNING)]
        assert len(up) + len(starts) <= wanted, "more are on their way than are wanted"
        assert len({one.revision for one in stay if one.revision != newest}) <= 1, "more than one revision kept back"
        assert len(fresh) <= 2 * wanted


def _check_route(route: routes.ServiceRoute, by_id: dict[observed.ReplicaId, observed.Replica]) -> None:
    ready = {one.endpoint: one.id.revision for one in by_id.values() if replicas.is_ready(one)}
    if not route.splits:
        assert "mlship why iris" in route.message
        return
    assert sum(split.weight for split in route.splits) == 100
    if route.gate is not None:
        assert [split.endpoints for split in route.splits] == [()], "held although somebody answers"
        return
    for split in route.splits:
        assert split.endpoints
        assert {ready.get(one) for one in split.endpoints} == {split.revision}, "traffic to what is not ready"


def _check_ready(seen: observed.Observed, plan: reconcile.Plan) -> None:
    conditions = {one["type"]: one["status"] for one in plan.status["conditions"]}
    if conditions["Ready"] != "True":
        return
    assert {conditions[one] for one in ("PredictorReady", "IngressReady", "LatestDeploymentReady")} == {"True"}
    newest = plan.status["components"]["predictor"]["latestCreatedRevision"]
    assert plan.route is not None
    if plan.route.gate is not None:
        assert seen.demand.gated, "ready, and nobody would hold a request"
        assert not plan.route.gate.hopeless
        return
    assert [split.revision for split in plan.route.splits] == [newest]
    assert any(replicas.is_ready(one) and one.id.revision == newest for one in seen.replicas)
    assert seen.gateway.running


@hypothesis.given(service=wishes, status=memories(), seen=worlds(), deleting=st.booleans())
@hypothesis.settings(max_examples=400, deadline=None)
def test_never(service: services.InferenceService, status: Any, seen: observed.Observed, deleting: bool) -> None:
    consistency.consistent(KEY, seen)
    desired = reconcile.Desired(service.model_copy(update={"status": status}), deleting=deleting)
    plan = reconcile.plan(desired, seen, NOW)
    assert plan == reconcile.plan(desired, seen, NOW), "two answers to one question"
    assert plan.summary()
    check(desired, seen, plan)


@hypothesis.given(service=wishes, status=memories(), seen=worlds(), deleting=st.booleans())
@hypothesis.settings(max_examples=300, deadline=None)
def test_a_plan_that_was_applied_is_not_repeated(
    service: services.InferenceService, status: Any, seen: observed.Observed, deleting: bool
) -> None:
    world = fake.Fake(now=NOW)
    world.seed(KEY, seen)
    desired = reconcile.Desired(service.model_copy(update={"status": status}), deleting=deleting)
    first = reconcile.plan(desired, world.seen(KEY), NOW)
    world.begin(KEY, first.actions)
    desired = dataclasses.replace(desired, service=service.model_copy(update={"status": first.status}))
    second = reconcile.plan(desired, world.seen(KEY), NOW)
    assert not set(map(str, first.actions)) & set(map(str, second.actions))


@hypothesis.given(service=settled_wishes, status=memories(), seen=worlds(), deleting=st.booleans(), data=st.data())
@hypothesis.settings(max_examples=150, deadline=None)
def test_eventually(
    service: services.InferenceService, status: Any, seen: observed.Observed, deleting: bool, data: st.DataObject
) -> None:
    """From any world, and whatever crashes on the way, the loop settles at what is wanted and then does nothing."""
    world = fake.Fake(now=NOW)
    world.seed(KEY, dataclasses.replace(seen, artifact=_curable(seen.artifact)))
    world.gateway_running = True
    trouble = data.draw(st.integers(0, 6), label="troubles")
    plan = reconcile.Plan()
    for _ in range(400):
        desired = reconcile.Desired(service.model_copy(update={"status": status}), deleting=deleting)
        plan = reconcile.plan(desired, world.seen(KEY), world.time.now)
        check(desired, world.seen(KEY), plan)
        world.begin(KEY, plan.actions)
        world.route(KEY, plan.route)
        status = plan.status
        # The plan of this turn knows nothing of the trouble in it: the end is a turn without.
        quiet = not trouble
        if trouble:
            trouble -= _trouble(world, data)
        sick = [one.id for one in world.facts(KEY).replicas if one.phase is Phase.RUNNING and not one.ready]
        times = [at for at in (world.time.next(), plan.wake_at) if at is not None]
        if quiet and not times and not plan.actions and not sick:
            break
        for one in sick if not trouble else []:
            world.recover(one)
        world.time.advance(max(min(times, default=world.time.now) - world.time.now, 0.0))
    else:
        raise AssertionError(f"not settled: {plan.summary()} {plan.why}")
    _check_end(service, world, plan, deleting=deleting)


def _curable(artifact: observed.Artifact | None) -> observed.Artifact | None:
    """An artifact whose failure is not for good."""
    if artifact is None or not artifact.error or artifact.retry_at is not None:
        return artifact
    return dataclasses.replace(artifact, retry_at=NOW + 5)


def _trouble(world: fake.Fake, data: st.DataObject) -> int:
    """Bring in some; how much."""
    found = [one for one in world.facts(KEY).replicas if one.phase is Phase.RUNNING]
    what = data.draw(st.sampled_from(["nothing", "crash", "unready", "gateway", "bytes"]), label="trouble")
    if what == "gateway":
        world.gateway_running = not world.gateway_running
    elif what == "bytes":
        world.artifacts.put(URI, data.draw(st.sampled_from(DIGESTS)))
    elif found and what != "nothing":
        one = data.draw(st.sampled_from(found)).id
        world.crash(one, code=data.draw(st.sampled_from([1, 65]))) if what == "crash" else world.unready(one, "503")
    return 1


def _check_end(service: services.InferenceService, world: fake.Fake, plan: reconcile.Plan, *, deleting: bool) -> None:
    effective = services.effective(service)
    facts = world.facts(KEY)
    if deleting:
        assert plan.finished
        assert not facts.replicas
        assert facts.artifact is None
        return
    assert plan.route is not None
    newest = plan.status["components"]["predictor"].get("latestCreatedRevision", "")
    assert len(facts.replicas) == effective.min_replicas
    assert all(one.id.revision == newest and one.ready for one in facts.replicas)
    ready = next(one["status"] for one in plan.status["conditions"] if one["type"] == "Ready")
    assert ready == ("True" if effective.min_replicas and world.gateway_running else "False")
