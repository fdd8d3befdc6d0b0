import json
import pathlib

import pytest

from mlship.backends.local import jobs
from mlship.plan import actions

JOB = jobs.Job(
    spec=actions.ProcessSpec(argv=("run",), env=(("A", "1"), ("B", actions.Secret("hush"))), probe=actions.Probe("/r")),
    log=pathlib.Path("/logs/a.log"),
    labels=(("service", "iris"),),
)


def test_a_job_survives_its_record():
    value = json.loads(json.dumps(jobs.to_json(JOB)))
    assert jobs.from_json(value) == JOB
    assert jobs.from_json(value).hash == JOB.hash


def test_the_hash_tells_jobs_apart():
    assert jobs.Job(JOB.spec, log=JOB.log).hash != JOB.hash


def test_a_secret_does_not_show():
    assert "hush" not in repr(JOB)


@pytest.mark.parametrize("field", ["spec", "log", "address", "provided", "sockets", "labels", "keep"])
def test_a_part_of_a_job_is_none(field):
    value = jobs.to_json(JOB)
    del value[field]
    with pytest.raises(KeyError):
        jobs.from_json(value)
