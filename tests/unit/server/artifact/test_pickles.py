from __future__ import annotations

import datetime
import os
import pathlib
import pickle
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn import compose, ensemble, linear_model, pipeline, preprocessing

from mlship import errors
from mlship.server.artifact import pickles

FEATURES = np.arange(40.0).reshape(20, 2)
TARGET = np.arange(20) % 2


def forest() -> Any:
    words = np.array([["a", 1.0], ["b", 2.0]] * 10, dtype=object)
    columns = compose.ColumnTransformer([("words", preprocessing.OneHotEncoder(), [0])], remainder="passthrough")
    return pipeline.make_pipeline(columns, ensemble.RandomForestClassifier(3)).fit(words, TARGET)


def save(folder: pathlib.Path, data: bytes) -> pathlib.Path:
    path = folder / "model.pkl"
    path.write_bytes(data)
    return path


class Attack:
    """Unpickling this runs a program."""

    def __init__(self, witness: pathlib.Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_names_the_root_and_the_version(tmp_path: pathlib.Path, protocol: int) -> None:
    scan = pickles.scan(save(tmp_path, pickle.dumps(forest(), protocol=protocol)))
    assert scan.root == "sklearn.pipeline.Pipeline"
    assert "sklearn.ensemble._forest.RandomForestClassifier" in scan.globals
    assert scan.versions["scikit-learn"]
    assert scan.versions["numpy"] == np.__version__[0]
    assert scan.complete


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_joblib_files_are_read_past_their_arrays(tmp_path: pathlib.Path, compress: Any) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(forest(), path, compress=compress)
    scan = pickles.scan(path)
    assert scan.root == "sklearn.pipeline.Pipeline"
    assert scan.complete
    assert scan.compression == (compress[0] if compress else "")
    assert "joblib.numpy_pickle.NumpyArrayWrapper" in scan.globals


def test_lz4_is_read_when_its_package_is_there(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("lz4")
    path = tmp_path / "model.joblib"
    joblib.dump(forest(), path, compress=("lz4", 3))
    assert pickles.scan(path).root == "sklearn.pipeline.Pipeline"


def test_nothing_is_executed(tmp_path: pathlib.Path) -> None:
    witness = tmp_path / "witness"
    scan = pickles.scan(save(tmp_path, pickle.dumps({"model": Attack(witness)})))
    assert "posix.system" in scan.globals
    assert not witness.exists()


@pytest.mark.parametrize("kept", [1, 50, -1])
def test_a_truncated_pickle_says_how_far_it_goes(tmp_path: pathlib.Path, kept: int) -> None:
    data = pickle.dumps(forest())[:kept]
    with pytest.raises(errors.SpecError, match=f"truncated pickle: it ends after {len(data)} bytes without the STOP"):
        pickles.scan(save(tmp_path, data))


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_a_truncated_joblib_file_is_told(tmp_path: pathlib.Path, compress: Any) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(linear_model.LinearRegression().fit(FEATURES, TARGET), path, compress=compress)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(errors.SpecError, match="truncated pickle"):
        pickles.scan(path)


def test_corrupt_compressed_data_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(forest(), path, compress=("zlib", 3))
    data = bytearray(path.read_bytes())
    data[40:80] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(errors.SpecError, match="corrupt: its zlib data cannot be inflated"):
        pickles.scan(path)


@pytest.mark.parametrize(
    "data", [b"\x80\x04R.", b"\x80\x04\xff.", b"\x80\x04h\x07.", b"\x80\x04(e.", b"\x80\x04K\x01K\x02\x93."]
)
def test_senseless_opcodes_are_no_pickle(tmp_path: pathlib.Path, data: bytes) -> None:
    with pytest.raises(errors.SpecError, match="starts like a pickle but is none"):
        pickles.scan(save(tmp_path, data))


def test_a_bomb_is_looked_at_only_up_to_the_bound(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump([linear_model.LinearRegression(), np.zeros(1 << 20)], path, compress=("zlib", 3))
    scan = pickles.scan(path, limit=1 << 16)
    assert not scan.complete
    assert scan.root == "builtins.list"


def test_a_long_string_is_skipped_and_its_marks_kept(tmp_path: pathlib.Path) -> None:
    text = "tree\nversion=v4\n" + "x" * 200_000
    scan = pickles.scan(save(tmp_path, pickle.dumps({"handle": text})))
    assert scan.versions == {"lightgbm": "4"}


def test_a_class_stored_by_cloudpickle_is_known_by_name(tmp_path: pathlib.Path) -> None:
    class Custom:
        def predict(self, rows: Any) -> Any:
            return rows

    scan = pickles.scan(save(tmp_path, cloudpickle.dumps(Custom())))
    assert scan.by_value
    assert scan.root.endswith("Custom")


@pytest.mark.parametrize(
    ("value", "root", "detail"),
    [
        ({"model": 1, "meta": 2}, "builtins.dict", "with the keys 'model', 'meta'"),
        ([1, 2], "builtins.list", "of 2 entries, the first a builtins.int"),
        ("text", "builtins.str", ""),
        (datetime.date(2020, 1, 1), "datetime.date", ""),
        (pickles.TORCH_MAGIC, "builtins.int", "torch"),
    ],
)
def test_plain_data_is_described(tmp_path: pathlib.Path, value: Any, root: str, detail: str) -> None:
    scan = pickles.scan(save(tmp_path, pickle.dumps(value)))
    assert (scan.root, scan.detail) == (root, detail)
