from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from mlship import errors
from mlship.server import catalog, loading
from mlship.server.accelerate import verdict


def write(root: pathlib.Path, name: str = "iris", **fields: Any) -> pathlib.Path:
    path = root / f"{name}.json"
    new = root / f".{name}.new"
    new.write_text(json.dumps({"name": name, "path": "/models/iris.pkl"} | fields))
    new.replace(path)
    return path


def test_an_entry_says_all_there_is(tmp_path: pathlib.Path) -> None:
    fields = {"version": "7", "format": "sklearn", "options": {"a": "b"}, "accelerate": "exact"}
    write(tmp_path, **fields, digest="sha256:1", memory=4096, tags={"tenant": "x"})
    listing = catalog.Catalog(tmp_path).read("iris")
    assert listing is not None
    (entry,) = listing.entries
    source = entry.source
    assert (source.name, source.version, source.path) == ("iris", "7", pathlib.Path("/models/iris.pkl"))
    assert (source.format, source.options, source.accelerate) == ("sklearn", {"a": "b"}, verdict.Mode.EXACT)
    assert (entry.digest, entry.memory, entry.tags) == ("sha256:1", 4096, {"tenant": "x"})


def test_flags_hold_where_an_entry_says_nothing(tmp_path: pathlib.Path) -> None:
    write(tmp_path, accelerate=None, version=None)
    (tmp_path / "wine").mkdir()
    flags = loading.Source("", "", tmp_path, format="sklearn", accelerate=verdict.Mode.AUTO, threads=3)
    listed = catalog.Catalog(tmp_path, flags=flags)
    assert listed.names() == ["iris", "wine"]
    for source in listed.sources():
        assert (source.version, source.format, source.accelerate, source.threads) == (
            "1",
            "sklearn",
            verdict.Mode.AUTO,
            3,
        )


def test_a_stamp_changes_with_the_entry_and_ends_with_it(tmp_path: pathlib.Path) -> None:
    listed = catalog.Catalog(tmp_path)
    path = write(tmp_path)
    first = listed.stamp("iris")
    write(tmp_path, digest="another")
    assert first != listed.stamp("iris") is not None
    path.unlink()
    assert listed.stamp("iris") is None
    assert listed.read("iris") is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path": "iris.pkl"}, "expected an absolute path"),
        ({"path": None}, '"path" expected a text'),
        ({"version": "x"}, "is not a model version"),
        ({"memory": -1}, '"memory" expected a number of bytes'),
        ({"memory": True}, '"memory" expected a number of bytes'),
        ({"options": {"a": 1}}, '"options" expected an object of texts'),
        ({"accelerate": "maybe"}, '"accelerate" expected one of'),
        ({"colour": "red"}, "fields that are not known: colour"),
    ],
)
def test_what_an_entry_may_not_say(tmp_path: pathlib.Path, fields: dict[str, Any], said: str) -> None:
    write(tmp_path, **fields)
    with pytest.raises(errors.SpecError, match=said):
        catalog.Catalog(tmp_path).read("iris")


def test_what_is_no_entry_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "iris.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    write(tmp_path, "wine").rename(tmp_path / "water.json")
    listed = catalog.Catalog(tmp_path)
    with pytest.raises(errors.SpecError, match="is not JSON"):
        listed.read("iris")
    with pytest.raises(errors.SpecError, match="expected an object"):
        listed.read("list")
    with pytest.raises(errors.SpecError, match='names "wine"'):
        listed.read("water")
    with pytest.raises(errors.SpecError, match="cannot be named"):
        listed.read("../iris")
    with pytest.raises(errors.SpecError, match="cannot be read"):
        catalog.Catalog(tmp_path / "nothing").names()
    assert catalog.Catalog(tmp_path / "nothing").changed() == 0
