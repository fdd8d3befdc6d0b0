from __future__ import annotations

import pathlib
import tarfile
import zipfile

import pytest

from mlship.storage import archive, cache, limits, progress, tree


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("m.tar", "tar", "m"),
        ("m.tar.gz", "tar", "m"),
        ("M.TGZ", "tar", "M"),
        ("m.v2.tar.bz2", "tar", "m.v2"),
        ("m.tar.xz", "tar", "m"),
        ("m.zip", "zip", "m"),
        ("m.skops", None, "m.skops"),
        ("m.keras", None, "m.keras"),
        ("m.mar", None, "m.mar"),
        ("m.json.gz", None, "m.json.gz"),
        ("zip", None, "zip"),
        (".zip", None, "model"),
    ],
)
def test_only_the_name_makes_an_archive(name: str, kind: str | None, stem: str) -> None:
    assert archive.kind_of(name) == kind
    assert archive.stem_of(name) == stem


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.tar.bz2", "m.tar.xz", "m.zip"])
def test_every_kind_becomes_the_same_folder(
    tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter, name: str
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "model.pkl").write_bytes(b"model" * 1000)
    (source / "sub" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "sub" / "run.sh").chmod(0o755)
    packed = tmp_path / name
    if name == "m.zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted(source.rglob("*")):
                zipped.write(path, path.relative_to(source))
    else:
        with tarfile.open(packed, f"w:{name.partition('.tar')[2].lstrip('.')}") as tar:
            tar.add(source, arcname=".")
    kind = archive.kind_of(name)
    assert kind is not None
    with store.staging() as place:
        found = archive.unpack(packed, kind, place, shown=name, root=store.root, bounds=limits.Limits(), meter=meter)
        assert (found.path / "model.pkl").read_bytes() == b"model" * 1000
        assert found.digest == tree.digest_of(source) == tree.digest_of(found.path)
        assert found.size == 5010
