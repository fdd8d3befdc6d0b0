import json
import pathlib
import stat

import pytest

from mlship import errors
from mlship.backends.local import jobs, records
from mlship.plan import actions, observed

JOB = jobs.Job(
    spec=actions.ProcessSpec(
        argv=("python", "-m", "x"),
        env=(("A", "1"), ("B", actions.Secret("hush"))),
        probe=actions.Probe("/ready"),
        cwd="/",
    ),
    log=pathlib.Path("/logs/a.log"),
    address="unix:/a",
    provided=(("S", "/a"),),
    sockets=("/a",),
    labels=(("service", "iris"),),
)
RECORD = records.Record(
    "ns/iris-a-0", JOB, pid=7, born="b/1", port=80, served=True, level=2, restarts=3, log_start=9, started_at=1.5,
    last_exit=observed.Exit(1.0, code=2, last_line="no"),
)  # fmt: skip


def test_a_record_reads_as_it_was_written_and_only_we_may_read_it(tmp_path):
    store = records.Records(tmp_path)
    store.write(RECORD)
    assert list(store.read()) == [RECORD]
    assert stat.S_IMODE(store.path(RECORD.key).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [store.path(RECORD.key).name]
    store.remove(RECORD.key)
    store.remove(RECORD.key)
    assert list(store.read()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: "",
        lambda value: json.dumps(value)[:-9],
        lambda value: "[]",
        lambda value: json.dumps(value | {"version": 0}),
        lambda value: json.dumps(value | {"pid": "7"}),
        lambda value: json.dumps(value | {"key": "another"}),
        lambda value: json.dumps(value | {"surprise": 1}),
        lambda value: json.dumps(value | {"job": {}}),
        lambda value: json.dumps(value | {"job": value["job"] | {"sockets": [1]}}),
    ],
)
def test_a_damaged_record_is_given_as_a_path(tmp_path, damage):
    store = records.Records(tmp_path)
    store.write(RECORD)
    path = store.path(RECORD.key)
    path.write_text(damage(json.loads(path.read_text())))
    assert list(store.read()) == [path]


def test_a_half_written_record_is_no_record(tmp_path):
    (tmp_path / ".process-x.json.partial").write_text("{")
    assert list(records.Records(tmp_path).read()) == []


def test_a_folder_that_is_away_is_an_error_that_names_it(tmp_path):
    store = records.Records(tmp_path / "gone")
    with pytest.raises(errors.BackendError, match=r"cannot write the record .*gone.*Check the free space"):
        store.write(RECORD)
