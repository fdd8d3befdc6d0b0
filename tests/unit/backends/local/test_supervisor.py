"""Real processes under a real supervisor: they crash, hang, outlive their supervisor and are found again."""

import asyncio
import dataclasses
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys

import psutil
import pytest

import model_server
from mlship import errors, home
from mlship.api import runtime
from mlship.backends.local import jobs, pids, process, records, supervisor
from mlship.plan import actions, observed

Phase = observed.Phase
HERE = pathlib.Path(__file__).parent
KEY = "default/iris-abc-0"


def ready(held, key=KEY):
    return lambda: (sight := held.observe(key)) is not None and sight.process.ready and sight


def phase(held, wanted, key=KEY):
    return lambda: (sight := held.observe(key)) is not None and sight.process.phase is wanted and sight


async def test_a_program_runs_answers_and_stops_without_a_trace(world, until, ask):
    held = await world.started()
    held.ensure(KEY, world.job())
    sight = await until(ready(held))
    assert ask(world.socket()) == sight.process.pid
    assert (sight.process.phase, sight.process.restarts) == (Phase.RUNNING, 0)
    held.stop(KEY)
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)
    assert not psutil.pid_exists(sight.process.pid)
    assert not world.socket().exists()
    assert list(world.home.records.glob("*.json")) == []


async def test_what_runs_is_not_started_again(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    sight = await until(ready(held))
    held.ensure(KEY, world.job())
    assert held.observe(KEY).process == sight.process


async def test_a_killed_process_is_back_at_once_with_the_cause_named(world, until, ask):
    held = await world.started()
    held.ensure(KEY, world.job("--say", "Traceback (most recent call last):\n  File x\nValueError: no"))
    first = await until(ready(held))
    os.kill(first.process.pid, signal.SIGKILL)
    second = await until(lambda: (sight := ready(held)()) and sight.process.pid != first.process.pid and sight)
    assert second.process.restarts == 1
    assert second.process.last_exit.signal == signal.SIGKILL
    assert second.process.last_exit.last_line == "ValueError: no"
    assert ask(world.socket()) == second.process.pid


async def test_one_that_crashes_before_it_is_ready_backs_off(world, until):
    held = await world.started()
    held.ensure(KEY, world.job("--exit", "3", "--say", "cannot read the model"))
    sight = await until(phase(held, Phase.BACKOFF))
    assert sight.process.last_exit.code == 3
    assert sight.process.deadline - sight.process.since == 1.0
    assert sight.process.message == "ended with exit code 3: cannot read the model"
    held.restart(KEY)
    again = await until(lambda: (now := phase(held, Phase.BACKOFF)()) and now.process.restarts == 1 and now)
    assert again.process.deadline - again.process.since == 2.0
    held.stop(KEY)
    assert held.observe(KEY) is None


async def test_one_that_cannot_load_its_model_is_left_alone_for_half_a_minute(world, until):
    held = await world.started()
    held.ensure(KEY, world.job("--exit", "65"))
    sight = await until(phase(held, Phase.BACKOFF))
    assert sight.process.deadline - sight.process.since >= 30


async def test_a_program_that_is_not_there_says_so(world, until):
    held = await world.started()
    job = world.job()
    held.ensure(KEY, jobs.Job(actions.ProcessSpec(argv=("no-such-program",)), log=job.log, address=job.address))
    sight = await until(phase(held, Phase.BACKOFF))
    assert "no-such-program" in sight.process.message
    assert "no such program on this machine" in sight.process.message


async def test_stop_kills_one_that_ignores_the_signal_and_its_children(world, tmp_path, until):
    held = await world.started()
    note = tmp_path / "grandchild"
    held.ensure(KEY, world.job("--ignore-term", "--grandchild", str(note), stop_grace=0.2))
    sight = await until(ready(held))
    grandchild = int(note.read_text())
    assert pids.born(grandchild)
    held.stop(KEY)
    assert held.observe(KEY).process.phase is Phase.TERMINATING
    await until(lambda: held.observe(KEY) is None)
    assert pids.born(sight.process.pid) is None
    await until(lambda: pids.born(grandchild) is None)


async def test_the_children_of_one_that_crashed_are_ended(world, tmp_path, until):
    held = await world.started()
    note = tmp_path / "grandchild"
    held.ensure(KEY, world.job("--grandchild", str(note)))
    sight = await until(ready(held))
    grandchild = int(note.read_text())
    os.kill(sight.process.pid, signal.SIGKILL)
    await until(lambda: pids.born(grandchild) is None)


async def test_a_start_that_takes_too_long_is_ended_and_tried_again_later(world, tmp_path, until):
    held = await world.started()
    held.ensure(KEY, world.job("--ready-file", str(tmp_path / "never"), start_deadline=1.5))
    await until(lambda: "the model is being loaded" in held.observe(KEY).process.message)
    sight = await until(phase(held, Phase.BACKOFF))
    assert sight.process.message.startswith("not ready 2 s after its start; it last said: answers 503")


async def test_readiness_comes_and_goes(world, tmp_path, until):
    held = await world.started()
    flag = tmp_path / "flag"
    held.ensure(KEY, world.job("--ready-file", str(flag)))
    await until(lambda: held.observe(KEY).process.message == "answers 503: the model is being loaded")
    assert held.observe(KEY).process.phase is Phase.STARTING
    flag.touch()
    sight = await until(ready(held))
    flag.unlink()
    await until(lambda: not held.observe(KEY).process.ready)
    now = held.observe(KEY).process
    assert (now.phase, now.pid) == (Phase.RUNNING, sight.process.pid)
    assert now.message == "answers 503: the model is being loaded"
    flag.touch()
    await until(ready(held))


async def test_a_changed_job_restarts_the_process(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    first = await until(ready(held))
    held.ensure(KEY, world.job("--say", "changed"))
    second = await until(lambda: (sight := ready(held)()) and sight.process.pid != first.process.pid and sight)
    assert "--say" in second.job.spec.argv


async def test_stopped_and_wanted_again_it_runs_again(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    first = await until(ready(held))
    held.stop(KEY)
    held.ensure(KEY, world.job())
    second = await until(lambda: (sight := ready(held)()) and sight.process.pid != first.process.pid and sight)
    assert second.process.restarts == 1


async def test_stopped_while_it_is_being_started_it_ends(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    assert held.observe(KEY).process.pid is None
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)
    assert list(pids.marked(world.mark)) == []


async def test_a_port_is_given_to_one_that_needs_it(world, until):
    held = await world.started()
    job = world.job()
    spec = actions.ProcessSpec(
        argv=("python", "-S", job.spec.argv[2], "port:$(PORT)"), probe=actions.Probe("/"), needs_port=True
    )
    held.ensure(KEY, jobs.Job(spec, log=job.log))
    sight = await until(ready(held))
    assert sight.address.startswith("127.0.0.1:")


async def test_children_get_a_clean_environment_and_none_of_our_descriptors(world, until):
    held = await world.started()
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        held.ensure(KEY, world.job(env=(("MODEL", "iris"), ("TOKEN", actions.Secret("hush")))))
        sight = await until(ready(held))
    finally:
        os.close(leak)
    process = psutil.Process(sight.process.pid)
    environ = process.environ()
    assert "MLSHIP_TOKEN" not in environ
    assert (environ["MODEL"], environ["TOKEN"], environ["PYTHONUNBUFFERED"]) == ("iris", "hush", "1")
    assert os.getsid(process.pid) == process.pid
    if pathlib.Path("/proc/self/fd").exists():
        held_open = {str(pathlib.Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)}
        assert held_open == {"/dev/null", str(sight.job.log)}
        # Those three and its socket; and while it is asked whether it is ready, that connection.
        await until(lambda: process.num_fds() == 4)


async def test_the_supervisor_lets_go_and_the_next_one_adopts(world, until, ask):
    first = await world.started()
    first.ensure(KEY, world.job())
    before = await until(ready(first))
    await first.close()
    assert ask(world.socket()) == before.process.pid
    second = await world.started()
    after = second.observe(KEY).process
    assert (after.phase, after.ready, after.pid) == (Phase.RUNNING, True, before.process.pid)
    second.ensure(KEY, world.job())
    assert second.observe(KEY).process.pid == before.process.pid


class Control:
    """A control plane in a process of its own, keeping ``job``, until it is killed."""

    def __init__(self, world, job, moment):
        text = json.dumps(jobs.to_json(job))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "control.py"), str(world.home.root), KEY, text, moment],
            stdout=subprocess.PIPE,
        )

    async def ready(self):
        line = await asyncio.to_thread(self.process.stdout.readline)
        return int(line)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def control(world):
    made = []

    def make(job, moment="never"):
        made.append(Control(world, job, moment))
        return made[-1]

    yield make
    for each in made:
        each.kill()


async def test_a_killed_supervisor_leaves_its_processes_serving_and_the_next_one_adopts(world, control, until, ask):
    killed = control(world.job())
    pid = await killed.ready()
    killed.kill()
    assert ask(world.socket()) == pid
    held = await world.started()
    sight = held.observe(KEY)
    assert (sight.process.pid, sight.process.ready, sight.process.restarts) == (pid, True, 0)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: (now := ready(held)()) and now.process.pid != pid)
    assert held.observe(KEY).process.last_exit.code is None
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)


async def test_an_adopted_process_is_stopped_with_all_its_children(world, control, tmp_path, until):
    note = tmp_path / "grandchild"
    killed = control(world.job("--ignore-term", "--grandchild", str(note), stop_grace=0.2))
    pid = await killed.ready()
    killed.kill()
    held = await world.started()
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)
    assert pids.born(pid) is None
    await until(lambda: pids.born(int(note.read_text())) is None)


async def test_what_died_while_nobody_watched_is_started_anew(world, control, until):
    killed = control(world.job("--say", "my last words"))
    pid = await killed.ready()
    killed.kill()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pids.born(pid) is None)
    held = await world.started()
    sight = await until(ready(held))
    assert sight.process.pid != pid
    assert sight.process.restarts == 1
    assert sight.process.last_exit.last_line == "my last words"


async def test_a_process_whose_pid_was_never_noted_is_found_by_its_mark(world, control, until):
    killed = control(world.job())
    pid = await killed.ready()
    killed.kill()
    store = records.Records(world.home.records)
    store.write(records.Record(KEY, world.job()))
    held = await world.started()
    assert held.observe(KEY).process.pid == pid
    await until(ready(held))


async def test_a_process_without_a_record_is_ended(world, control, until):
    killed = control(world.job())
    pid = await killed.ready()
    killed.kill()
    records.Records(world.home.records).path(KEY).write_text("{not a record")
    held = await world.started()
    await until(lambda: pids.born(pid) is None)
    assert held.keys == ()
    assert list(world.home.records.glob("*.json")) == []


async def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(world, until):
    store = records.Records(world.home.records)
    world.home.records.mkdir(parents=True)
    store.write(records.Record(KEY, world.job(), pid=os.getppid(), born="before/1", served=True))
    held = await world.started()
    sight = await until(ready(held))
    assert sight.process.pid != os.getppid()


MOMENTS = ["before write 1", "after write 1", "before write 2", "after write 2", "before write 3", "after write 3"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_killed_at_any_moment_of_a_start_it_leaves_one_process_at_the_end(world, control, until, moment):
    """Write 1 records the wish, write 2 the pid of what was started in between, write 3 that it serves."""
    killed = control(world.job(), moment)
    assert await asyncio.to_thread(killed.process.wait) == -signal.SIGKILL
    held = await world.started()
    held.ensure(KEY, world.job())
    sight = await until(ready(held))
    assert [found.pid for found in pids.marked(world.mark)] == [sight.process.pid]
    assert sight.process.restarts == 0


async def test_what_was_recorded_but_never_started_is_started(world, until):
    world.home.records.mkdir(parents=True)
    records.Records(world.home.records).write(records.Record(KEY, world.job()))
    held = await world.started()
    assert (await until(ready(held))).process.restarts == 0


async def test_no_descriptor_is_left_behind(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    await until(ready(held))
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)
    before = psutil.Process().num_fds()
    for _ in range(5):
        held.ensure(KEY, world.job())
        await until(ready(held))
        held.restart(KEY)
        await until(lambda: held.observe(KEY).process.restarts == 1 and held.observe(KEY).process.ready)
        held.stop(KEY)
        await until(lambda: held.observe(KEY) is None)
    await until(lambda: psutil.Process().num_fds() <= before)


def status_of(path):
    """None while there is no such file: one is put in the place of another."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


async def test_a_log_that_grew_too_large_is_rotated_while_its_writer_goes_on(world, until):
    held = await world.started(largest_log=10_000, look_at_logs_every=0.05)
    code = "import itertools, time\nfor n in itertools.count(): print(n, 'x' * 80, flush=True), time.sleep(0.0005)"
    job = world.job()
    held.ensure(
        KEY,
        jobs.Job(
            actions.ProcessSpec(argv=("python", "-S", "-c", code), stop_grace=1), log=job.log, address=job.address
        ),
    )
    await until(lambda: job.log.with_name(job.log.name + ".3").exists())
    newest = await until(lambda: status_of(job.log.with_name(job.log.name + ".1")))
    assert newest.st_size < 1_000_000
    assert stat.S_IMODE(newest.st_mode) == 0o600
    await until(lambda: job.log.stat().st_size > 0)
    assert not job.log.with_name(job.log.name + ".4").exists()


async def test_records_that_cannot_be_written_are_an_error_that_says_where(world, monkeypatch):
    held = await world.started()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(errors.BackendError, match=r"cannot write the record .*No space left on device"):
        held.ensure(KEY, world.job())
    assert held.keys == ()


async def test_a_home_that_cannot_be_made_is_an_error_that_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    held = supervisor.Supervisor(home.Home(tmp_path / "file" / "home"), environ={}, on_error=lambda *_: None)
    with pytest.raises(errors.BackendError, match="cannot make the folder"):
        await held.start()
    await held.close()


async def test_stop_all_waits_for_the_end(world, until):
    held = await world.started()
    for name in ("a", "b"):
        held.ensure(name, world.job(name=name))
    await until(lambda: ready(held, "a")() and ready(held, "b")())
    assert await held.stop_all(20.0)
    assert held.keys == ()
    with pytest.raises(errors.SpecError, match="nothing runs under a"):
        held.restart("a")


def test_a_program_is_supervised_under_uvloop_as_well(bare_world, until):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        held = await bare_world.started()
        held.ensure(KEY, bare_world.job())
        first = await until(ready(held))
        os.kill(first.process.pid, signal.SIGKILL)
        second = await until(lambda: (sight := ready(held)()) and sight.process.pid != first.process.pid and sight)
        assert second.process.last_exit.signal == signal.SIGKILL
        assert await held.stop_all(20.0)
        await held.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_replicas_of_our_server_are_forked_and_share_the_machine(world, until, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor.cores, "available", lambda: 7)
    folder = model_server.write_model(tmp_path / "model", model_server.MODELS["adder"])
    held = await world.started()
    for name in ("a", "b", "c"):
        job = world.job(name=name, probe="/v2/health/ready")
        flags = ("--model-path", str(folder), "--model-format", "python", "--http-socket", str(world.socket(name)))
        held.ensure(name, dataclasses.replace(job, spec=dataclasses.replace(job.spec, argv=(*runtime.COMMAND, *flags))))
    sights = [await until(lambda name=name: (one := held.observe(name)).process.ready and one) for name in "abc"]
    (zygote,) = held.zygotes.values()
    for sight in sights:
        process = psutil.Process(sight.process.pid)
        assert process.ppid() == zygote
        # The first may have been started before the others were there; all were when the last was.
        assert process.cmdline()[process.cmdline().index("--cpus") + 1] in {"2", "3", "7"}
    os.kill(sights[0].process.pid, signal.SIGTERM)
    again = await until(lambda: (one := held.observe("a")).process.ready and one.process.restarts == 1 and one)
    assert (again.process.last_exit.code, again.process.last_exit.signal) == (0, None)
    process = psutil.Process(again.process.pid)
    assert process.cmdline()[process.cmdline().index("--cpus") + 1] == "2"
    await held.close()
    assert not psutil.pid_exists(zygote)
    assert all(psutil.pid_exists(one.process.pid) for one in (again, *sights[1:]))


async def test_without_zygotes_everything_starts_cold(world, until, tmp_path):
    folder = model_server.write_model(tmp_path / "model", model_server.MODELS["adder"])
    held = await world.started(warm=False)
    job = world.job(probe="/v2/health/ready")
    flags = ("--model-path", str(folder), "--model-format", "python", "--http-socket", str(world.socket()))
    held.ensure(KEY, dataclasses.replace(job, spec=dataclasses.replace(job.spec, argv=(*runtime.COMMAND, *flags))))
    sight = await until(ready(held))
    assert psutil.Process(sight.process.pid).ppid() == os.getpid()
    assert held.zygotes == {}


def server_job(world, folder, name="a"):
    job = world.job(name=name, probe="/v2/health/ready")
    flags = ("--model-path", str(folder), "--model-format", "python", "--http-socket", str(world.socket(name)))
    return dataclasses.replace(job, spec=dataclasses.replace(job.spec, argv=(*runtime.COMMAND, *flags)))


async def test_the_first_start_of_what_was_stood_by_for_is_forked(world, until, tmp_path):
    job = server_job(world, model_server.write_model(tmp_path / "model", model_server.MODELS["adder"]))
    held = await world.started()
    held.stand_by("iris", job.spec)
    await until(lambda: held.zygotes)
    (zygote,) = held.zygotes.values()
    held.ensure(KEY, job)
    sight = await until(lambda: (one := ready(held)()) and "load" in dict(one.startup.phases) and one)
    assert psutil.Process(sight.process.pid).ppid() == zygote
    assert sight.startup.how is observed.How.FORKED
    assert sight.startup.ready_at >= sight.startup.began_at
    assert list(dict(sight.startup.phases)) == ["wait", "fork", "listening", "load", "warm-up"]
    # Stood down, and still the parent of what runs.
    held.stand_by("iris", None)
    await held.close()
    after = await world.started()
    assert after.observe(KEY).startup == sight.startup, "the next supervisor knows how it came to be"


async def test_a_zygote_that_has_died_meanwhile_costs_time_and_nothing_else(world, until, tmp_path):
    job = server_job(world, model_server.write_model(tmp_path / "model", model_server.MODELS["adder"]))
    held = await world.started()
    held.stand_by("iris", job.spec)
    log = world.home.logs / "zygote-python.log"
    await until(lambda: log.exists() and "zygote ready" in log.read_text())
    (zygote,) = held.zygotes.values()
    os.kill(zygote, signal.SIGKILL)
    held.ensure(KEY, job)
    await until(ready(held))
    await until(lambda: set(held.zygotes.values()) - {zygote})


async def test_a_cold_start_tells_its_phases_too(world, until, tmp_path):
    job = server_job(world, model_server.write_model(tmp_path / "model", model_server.MODELS["adder"]))
    held = await world.started(warm=False)
    held.ensure(KEY, job)
    sight = await until(lambda: (one := ready(held)()) and "load" in dict(one.startup.phases) and one)
    assert sight.startup.how is observed.How.COLD
    assert list(dict(sight.startup.phases)) == ["import", "listening", "load", "warm-up"]
    assert dict(sight.startup.phases)["import"] > 0


async def test_stop_all_leaves_what_it_is_told_to_and_hurries_what_takes_too_long(world, until, monkeypatch):
    monkeypatch.setattr(process, "HURRIED_GRACE", 0.2)
    held = await world.started()
    for name in ("stays", "slow"):
        held.ensure(name, world.job("--ignore-term", name=name, stop_grace=3600))
    await until(lambda: ready(held, "stays")() and ready(held, "slow")())
    held.hurry()
    assert await held.stop_all(0.1, but=("stays",))
    assert held.keys == ("stays",)
    stopping = asyncio.create_task(held.stop_all(3600))
    await until(lambda: held.observe("stays").process.phase is observed.Phase.TERMINATING)
    held.hurry()
    assert await stopping
    assert held.keys == ()
