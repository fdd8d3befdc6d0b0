"""What a unit does between its machine and the world; whole lives are in test_supervisor."""

import dataclasses
import json
import os
import signal

import pytest

from mlship import errors
from mlship.backends.local import events, process, records
from mlship.plan import actions, observed

KEY = "default/iris-abc-0"
Phase = observed.Phase


def unit_of(held):
    return held._units[KEY]


def sight(held, holds):
    return lambda: (now := held.observe(KEY)) is not None and holds(now.process) and now


async def test_wanting_it_again_does_not_shorten_the_back_off_of_a_failed_start(world, until):
    held = await world.started()
    job = world.job("--ready-file", "/nowhere", "--ignore-term", start_deadline=2.0, stop_grace=1.0)
    held.ensure(KEY, job)
    await until(sight(held, lambda now: now.phase is Phase.TERMINATING))
    held.ensure(KEY, job)
    assert unit_of(held).process.failed_start
    await until(sight(held, lambda now: now.phase is Phase.BACKOFF))


async def test_an_impossible_event_is_refused_and_changes_nothing(world, until):
    held = await world.started()
    held.ensure(KEY, world.job())
    before = (await until(sight(held, lambda now: now.ready))).process
    with pytest.raises(process.IllegalEvent):
        unit_of(held).deliver(events.Spawned(1))
    assert held.observe(KEY).process == before


async def test_without_a_record_there_is_nothing_to_adopt(world):
    held = await world.started()
    held.ensure(KEY, world.job())
    with pytest.raises(ValueError, match="nothing to adopt"):
        unit_of(held).adopt(records.Record(KEY, world.job()))


async def test_a_record_that_cannot_be_written_does_not_stop_a_process_from_serving(world, until, monkeypatch):
    held = await world.started()
    held.ensure(KEY, world.job())

    def full(*_):
        raise errors.BackendError("no space left")

    monkeypatch.setattr(records.Records, "write", full)
    monkeypatch.setattr(records.Records, "remove", full)
    await until(sight(held, lambda now: now.ready))
    held.stop(KEY)
    await until(lambda: held.observe(KEY) is None)


async def test_a_log_that_cannot_be_read_is_said_instead_of_its_last_line(world, until):
    held = await world.started()
    job = world.job("--ready-file", "/nowhere")
    held.ensure(KEY, job)
    pid = (await until(sight(held, lambda now: now.pid and "answers 503" in now.message))).process.pid
    job.log.unlink()
    job.log.mkdir()
    os.kill(pid, signal.SIGKILL)
    ended = await until(sight(held, lambda now: now.phase is Phase.BACKOFF))
    assert "cannot be read" in ended.process.last_exit.last_line


async def test_a_report_is_read_until_it_is_settled(world, until, tmp_path):
    path = tmp_path / "report.json"

    def write(state):
        partial = tmp_path / "partial"
        partial.write_text(json.dumps({
            "state": state, "accelerate": "auto", "reason": "", "speed_up": {}, "proof_rows": 0,
            "largest_relative_difference": 0.0, "classes_changed": 0, "outputs": [],
        }))  # fmt: skip
        partial.replace(path)

    def said(state):
        return lambda: (now := held.observe(KEY)) and now.acceleration and now.acceleration.state == state

    write("proving")
    held = await world.started()
    told = []
    held.subscribe(lambda key: told.append(held.observe(key)))
    probe = actions.Probe(path="/ready", period=0.02, report="/report")
    job = world.job("--report-file", str(path))
    held.ensure(KEY, dataclasses.replace(job, spec=dataclasses.replace(job.spec, probe=probe)))
    await until(said("proving"))
    write("compiled")
    await until(said("compiled"))
    assert told[-1].acceleration.state == "compiled"
    # Nobody asks again, until it is another process.
    write("original")
    held.restart(KEY)
    await until(said("original"))
