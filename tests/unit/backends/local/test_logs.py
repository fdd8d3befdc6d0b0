import contextlib
import os

import pytest

from mlship import errors
from mlship.backends.local import logs
from mlship.plan import observed

IRIS = observed.ServiceKey("default", "iris")


def replica(revision, ordinal):
    return observed.ReplicaId(IRIS, revision, ordinal)


def write(folder, which, text, *, age=0):
    path = folder / logs.file_name(which)
    path.write_text(text)
    os.utime(path, (1000 - age, 1000 - age))
    return path


async def test_each_file_by_its_age_with_the_replica_named(tmp_path):
    write(tmp_path, replica("b", 0), "3\n")
    write(tmp_path, replica("a", 1), "1\n2 pass1234\n", age=5)
    found = [line async for line in logs.read(IRIS, tmp_path, tail=5, follow=False, secrets=["pass1234"])]
    assert [(line.replica, line.text) for line in found] == [
        (replica("a", 1), "1"), (replica("a", 1), "2 <redacted>"), (replica("b", 0), "3")
    ]  # fmt: skip


async def test_following_takes_up_new_replicas(tmp_path):
    write(tmp_path, replica("a", 0), "1\n")
    async with contextlib.aclosing(logs.read(IRIS, tmp_path, tail=5, follow=True, secrets=())) as lines:
        assert (await anext(lines)).text == "1"
        write(tmp_path, replica("b", 0), "2\n")
        found = await anext(lines)
        assert (found.replica, found.text) == (replica("b", 0), "2")


async def test_none_at_all_and_none_that_can_be_read(tmp_path):
    with pytest.raises(errors.SpecError, match="no logs of default/iris"):
        await anext(logs.read(IRIS, tmp_path / "none", tail=1, follow=False, secrets=()))
    (tmp_path / "a-0.log").mkdir()
    with pytest.raises(errors.BackendError, match="cannot read the log"):
        await anext(logs.read(IRIS, tmp_path, tail=1, follow=False, secrets=()))


def test_pruning_spares_the_living(tmp_path):
    kept = write(tmp_path, replica("a", 0), "x", age=9)
    write(tmp_path, replica("b", 0), "x", age=5)
    newest = write(tmp_path, replica("c", 0), "x")
    logs.prune(tmp_path, [replica("a", 0)], 1)
    assert sorted(tmp_path.iterdir()) == [kept, newest]
