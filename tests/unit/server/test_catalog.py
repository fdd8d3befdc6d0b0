from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import orjson
import pytest

from mlship import errors
from mlship.server import catalog, folder, loading, memory
from mlship.server.accelerate import verdict
from mlship.server.artifact import pbtxt


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


def test_one_strange_thing_in_the_folder_hides_nothing_else(tmp_path: pathlib.Path) -> None:
    write(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / os.fsdecode(b"caf\xe9.json")).write_text("{}")
    (tmp_path / os.fsdecode(b"caf\xe9s")).mkdir()
    listed = catalog.Catalog(tmp_path)
    assert listed.names() == ["caf\ufffd", "caf\ufffds", "iris"]
    orjson.dumps(listed.names())
    with pytest.raises(errors.SpecError, match="cannot be named"):
        listed.read("caf\ufffd")


def test_a_path_that_no_file_can_have_is_left_to_whoever_loads_it(tmp_path: pathlib.Path) -> None:
    write(tmp_path, path="/models/\0")
    found = catalog.Catalog(tmp_path).read("iris")
    assert found is not None
    assert memory.on_disk(found.entries[0].source.path) == 0


def test_a_folder_that_goes_while_it_is_read_is_not_listed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: pathlib.Path) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    def shut(_: pathlib.Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "wine").mkdir()
    listed = catalog.Catalog(tmp_path)
    monkeypatch.setattr(folder, "versions", gone)
    assert listed.read("wine") is None
    monkeypatch.setattr(folder, "versions", shut)
    with pytest.raises(errors.SpecError, match="cannot be read: Permission denied"):
        listed.read("wine")


def test_a_folder_of_mlserver_is_listed_under_its_own_name_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder").mkdir()
    settings = {"name": "wine", "implementation": "mlserver_sklearn.SKLearnModel"}
    (tmp_path / "folder" / "model-settings.json").write_text(json.dumps(settings))
    listed = catalog.Catalog(tmp_path)
    assert listed.names() == ["wine"]
    assert listed.read("folder") is None
    found = listed.read("wine")
    assert found is not None
    assert [entry.source.name for entry in found.entries] == ["wine"]


def test_a_folder_of_mlserver_whose_name_can_be_no_models_says_so_under_its_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder").mkdir()
    settings = {"name": "red wine", "implementation": "mlserver_sklearn.SKLearnModel"}
    (tmp_path / "folder" / "model-settings.json").write_text(json.dumps(settings))
    listed = catalog.Catalog(tmp_path)
    assert listed.names() == ["folder"]
    with pytest.raises(errors.SpecError, match="cannot be named"):
        listed.read("folder")


def test_without_a_digest_the_files_say_whether_it_is_another(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wine" / "1").mkdir(parents=True)
    file = tmp_path / "wine" / "1" / "model.onnx"
    file.write_bytes(b"1")
    listed = catalog.Catalog(tmp_path)

    def identity() -> str:
        found = listed.read("wine")
        assert found is not None
        return found.entries[0].identity

    before = identity()
    assert identity() == before
    file.write_bytes(b"22")
    assert identity() != before


@pytest.mark.parametrize(
    "text",
    [
        "version_policy: 3",
        "version_policy: { latest: 3 }",
        'version_policy: { latest: { num_versions: "x" } }',
        "version_policy: { specific: { versions: { } } }",
        "version_policy: { latest: { num_versions: 0 } }",
        "name: []",
    ],
)
def test_a_triton_configuration_of_the_wrong_shape_is_refused_with_its_name(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "wine" / "1").mkdir(parents=True)
    (tmp_path / "wine" / "config.pbtxt").write_text(text)
    listed = catalog.Catalog(tmp_path)
    assert listed.names() == ["wine"]
    with pytest.raises(errors.SpecError, match=r"wine/config\.pbtxt"):
        listed.read("wine")


def test_a_large_configuration_is_read_in_a_moment(tmp_path: pathlib.Path) -> None:
    found = pbtxt.read("\n" * 1_000_000 + "name: 'a'\n" * 10_000, where="config.pbtxt")
    assert len(found["name"]) == 10_000
    with pytest.raises(errors.SpecError, match="line 1000001: "):
        pbtxt.read("\n" * 1_000_000 + "}", where="config.pbtxt")
