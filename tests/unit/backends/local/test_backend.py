"""The local backend as a control plane uses it: five verbs, real processes, real files."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import stat

import pytest

from mlship import errors, home
from mlship.backends.local import backend, pids, supervisor
from mlship.plan import actions, observed

REPLICA = str(pathlib.Path(__file__).parent.parent / "replica.py")
IRIS = observed.ServiceKey("default", "iris")
FIRST = observed.ReplicaId(IRIS, "abc", 0)
Phase = observed.Phase


class World:
    def __init__(self, root):
        self.home = home.Home(root)
        self.errors = []

    @contextlib.asynccontextmanager
    async def backend(self):
        made = backend.LocalBackend(
            self.home,
            environ={"PATH": os.environ["PATH"]},
            on_error=lambda name, error: self.errors.append((name, error)),
            look_every=0.05,
        )
        try:
            await made.start()
            yield made
        finally:
            await made.close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "home")
    yield made
    for found in pids.marked(supervisor.mark_of(made.home)):
        os.kill(found.pid, signal.SIGKILL)
    shutil.rmtree(made.home.sockets, ignore_errors=True)
    assert made.errors == []


def start(*flags, replica=FIRST, grpc=False, env=()):
    argv = ("python", "-S", REPLICA, "$(MLSHIP_HTTP_SOCKET)", *flags)
    if grpc:
        env = (*env, ("GRPC", "$(MLSHIP_GRPC_SOCKET)"))
    spec = actions.ProcessSpec(argv=argv, env=env, probe=actions.Probe("/ready", period=0.05), stop_grace=10)
    return actions.StartReplica(replica, spec=spec, model_path="/models/m", digest="sha256:0")


async def until(made, holds):
    """Wait for facts that ``holds`` likes, told of changes by ``watch`` alone."""
    async with asyncio.timeout(30):
        async with contextlib.aclosing(made.watch()) as changes:
            facts = await made.observe(IRIS)
            if holds(facts):
                return facts
            async for service in changes:
                assert service == IRIS
                facts = await made.observe(IRIS)
                if holds(facts):
                    return facts
    raise AssertionError("the watch ended")


def ready(facts):
    return bool(facts.replicas) and all(replica.ready for replica in facts.replicas)


def gone(facts):
    return not facts.replicas


async def test_a_replica_starts_serves_and_ends(world):
    async with world.backend() as made:
        assert await made.observe(IRIS) == backend.base.Facts()
        await made.apply(IRIS, [start(grpc=True)])
        await made.apply(IRIS, [start(grpc=True)])
        (replica,) = (await until(made, ready)).replicas
        assert (replica.id, replica.phase, replica.restarts) == (FIRST, Phase.RUNNING, 0)
        path = replica.endpoint.http.removeprefix("unix:")
        assert pathlib.Path(path).is_socket()
        assert len(path) < 104
        assert replica.endpoint.grpc == f"unix:{path.removesuffix('h')}g"
        assert stat.S_IMODE(pathlib.Path(path).parent.stat().st_mode) == 0o700
        await made.apply(IRIS, [actions.StopReplica(FIRST)])
        await made.apply(IRIS, [actions.StopReplica(FIRST)])
        await until(made, gone)
        assert not pathlib.Path(path).exists()
        await made.apply(IRIS, [actions.StopReplica(FIRST)])


async def test_one_that_speaks_no_grpc_has_no_grpc_endpoint(world):
    async with world.backend() as made:
        await made.apply(IRIS, [start()])
        (replica,) = (await until(made, ready)).replicas
        assert replica.endpoint.grpc == ""


async def test_a_failing_replica_tells_why_and_when_it_is_tried_again(world):
    async with world.backend() as made:
        await made.apply(
            IRIS, [start("--say", '{"level": "error", "event": "cannot load", "error": "no magic"}', "--exit", "65")]
        )
        (replica,) = (await until(made, lambda facts: facts.replicas[0].phase is Phase.BACKOFF)).replicas
        assert (replica.last_exit.code, replica.last_exit.last_line) == (65, "cannot load: no magic")
        assert replica.restart_at - replica.since == 32
        assert (replica.pid, replica.ready) == (None, False)


async def test_the_next_backend_finds_replicas_and_artifact_and_says_their_key(world, tmp_path):
    model = tmp_path / "m.bin"
    model.write_bytes(b"one")
    async with world.backend() as made:
        await made.apply(IRIS, [start(), actions.FetchArtifact(str(model))])
        before = await until(made, lambda facts: ready(facts) and facts.artifact.digest)
    async with world.backend() as made:
        after = await made.observe(IRIS)
        assert (after.replicas[0].pid, after.replicas[0].ready) == (before.replicas[0].pid, True)
        assert after.artifact == dataclasses.replace(before.artifact, fetched_at=None, seconds=0.0)
        assert before.replicas[0].startup.ready_at is not None
        assert after.replicas[0].startup == before.replicas[0].startup
        async with contextlib.aclosing(made.watch()) as changes:
            assert await anext(changes) == IRIS
        os.kill(after.replicas[0].pid, signal.SIGKILL)
        await until(made, lambda facts: ready(facts) and facts.replicas[0].restarts == 1)
        await made.apply(IRIS, [actions.StopReplica(FIRST), actions.ForgetArtifact(str(model))])
        await until(made, gone)
        assert (await made.observe(IRIS)).artifact is None


async def test_two_replicas_have_their_own_sockets_and_order(world):
    second = observed.ReplicaId(IRIS, "abc", 1)
    async with world.backend() as made:
        await made.apply(IRIS, [start(replica=second), start()])
        found = (await until(made, ready)).replicas
        assert [replica.id for replica in found] == [FIRST, second]
        assert found[0].endpoint != found[1].endpoint


async def test_what_cannot_be_begun_is_an_error_and_what_was_begun_before_stays(world, monkeypatch):
    second = observed.ReplicaId(IRIS, "abc", 1)
    async with world.backend() as made:
        await made.apply(IRIS, [start()])
        await until(made, ready)
        world.home.records.chmod(0o500)
        monkeypatch.setattr(os, "open", _refusing(world.home.records))
        with pytest.raises(errors.BackendError, match="cannot write the record"):
            await made.apply(IRIS, [start(replica=second)])
        monkeypatch.undo()
        world.home.records.chmod(0o700)
        assert [replica.id for replica in (await made.observe(IRIS)).replicas] == [FIRST]


def _refusing(folder):
    real = os.open

    def opened(path, *rest, **more):
        if pathlib.Path(path).parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    return opened


async def test_logs_are_kept_followed_and_free_of_secrets(world):
    env = (("TOKEN", actions.Secret("hunter22")),)
    async with world.backend() as made:
        with pytest.raises(errors.SpecError, match="no logs of default/iris") as caught:
            await anext(made.logs(IRIS))
        assert caught.value.reason is errors.Reason.NOT_FOUND
        await made.apply(IRIS, [start("--say", "one\ntwo $(TOKEN)\nthree", env=env)])
        (replica,) = (await until(made, ready)).replicas
        lines = [line async for line in made.logs(IRIS, tail=2)]
        assert [line.text for line in lines] == ["two <redacted>", "three"]
        assert lines[0].replica == FIRST
        async with contextlib.aclosing(made.logs(IRIS, tail=1, follow=True)) as following:
            assert (await anext(following)).text == "three"
            os.kill(replica.pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                assert [(await anext(following)).text for _ in range(3)] == ["one", "two <redacted>", "three"]
        await made.apply(IRIS, [actions.StopReplica(FIRST)])
        await until(made, gone)
        assert [line.text async for line in made.logs(IRIS, tail=2)] == ["two <redacted>", "three"]


async def test_a_closed_backend_ends_its_watches_and_takes_no_orders(world):
    async with world.backend() as made:
        changes = made.watch()
        task = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
    assert await task is None
    with pytest.raises(errors.BackendError, match="closed"):
        await made.apply(IRIS, [start()])


async def test_another_programs_of_the_supervisor_are_no_replicas(world):
    async with world.backend() as made:
        job = backend.jobs.Job(
            actions.ProcessSpec(argv=("python", "-S", REPLICA, "$(S)"), probe=actions.Probe("/")),
            log=world.home.logs / "gateway.log",
            address=f"unix:{world.home.sockets / 'gw'}",
            provided=(("S", str(world.home.sockets / "gw")),),
        )
        made.supervisor.ensure("gateway", job)
        assert made.supervisor.observe("gateway") is not None
    async with world.backend() as made:
        assert made.supervisor.keys == ("gateway",)
        assert await made.supervisor.stop_all(30)
