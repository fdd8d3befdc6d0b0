from __future__ import annotations

import io
import pathlib
import tarfile
import zipfile

import pytest

import models
from mlship import errors
from mlship.server.artifact import kinds, sniff


def write(folder: pathlib.Path, name: str, data: bytes | str) -> pathlib.Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pkl"))
    return buffer.getvalue()


@pytest.mark.parametrize("maker", models.MAKERS, ids=lambda maker: maker.__name__)
def test_real_models_are_found(tmp_path: pathlib.Path, maker: object) -> None:
    made = maker(tmp_path)  # type: ignore[operator]
    verdict = sniff.identify(made.path)
    assert isinstance(verdict, kinds.Found)
    assert verdict.format == made.format


def test_native_formats_record_their_versions(tmp_path: pathlib.Path) -> None:
    import lightgbm
    import xgboost

    for maker in (models.xgboost_json, models.xgboost_ubj, models.xgboost_wrapper):
        assert sniff.identify(maker(tmp_path).path).versions["xgboost"] == xgboost.__version__  # type: ignore[union-attr]
    found = sniff.identify(models.lightgbm_txt(tmp_path).path)
    assert isinstance(found, kinds.Found)
    assert lightgbm.__version__.startswith(found.versions["lightgbm"])
    skops = sniff.identify(models.diabetes_ridge(tmp_path).path)
    assert isinstance(skops, kinds.Found)
    assert set(skops.versions) == {"skops", "scikit-learn"}


@pytest.mark.parametrize(
    ("maker", "said"),
    [
        (models.xgboost_json, "truncated XGBoost model"),
        (models.xgboost_ubj, "truncated XGBoost model"),
        (models.lightgbm_txt, "truncated LightGBM model"),
        (models.catboost_cbm, "truncated CatBoost model"),
        (models.onnx_iris, "truncated ONNX model"),
        (models.diabetes_ridge, "broken zip file"),
        (models.iris_pipeline, "truncated pickle"),
    ],
)
def test_half_a_model_is_told(tmp_path: pathlib.Path, maker: object, said: str) -> None:
    made = maker(tmp_path)  # type: ignore[operator]
    data = made.path.read_bytes()
    made.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(errors.SpecError, match=said):
        sniff.identify(made.path)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model.pkl", b"", "is empty (0 bytes)"),
        ("model.pkl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        ("model.pkl", b"\n<!DOCTYPE html><html>", "an HTML page"),
        (
            "model.pkl",
            b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
            "error message of an object store",
        ),
        ("model.zip", zipped("model.pkl"), "a zip archive, not a model"),
        ("model.npz", zipped("a.npy"), "an archive of NumPy arrays"),
        ("model.skops", zipped("schema.json"), "not skops'"),
        ("model.tar", tarred(), "a tar archive, not a model"),
        ("model.tgz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00", "gzip"),
        ("array.npy", b"\x93NUMPY\x01\x00", "a NumPy array, not a model"),
        ("table.parquet", b"PAR1....", "a Parquet table"),
        ("dump.json", b'[\n  { "nodeid": 0, "split": "f0" }]', "a text dump of an XGBoost model"),
        ("model.json", b'{"ctrs": [], "oblivious_trees": []}', "a CatBoost model in JSON"),
        ("model.json", b'{"name": "tree", "num_tree_per_iteration": 1, "tree_info": []}', "a JSON dump of a LightGBM"),
        ("model.py", b"def predict(x):\n    return x\n", "without a class that has predict"),
        ("model.py", b"class Model:\n    def predict(self x): ...\n", "is not valid Python: invalid syntax"),
        ("model.py", b"\x00", "is not valid Python"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: pathlib.Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        sniff.identify(write(tmp_path, name, data))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("model.pt", zipped("archive/data.pkl", "archive/version"), "PyTorch"),
        ("model.mar", zipped("MAR-INF/MANIFEST.json"), "PyTorch"),
        ("model.keras", zipped("config.json", "model.weights.h5"), "Keras"),
        ("model.h5", b"\x89HDF\r\n\x1a\n....", "HDF5"),
        ("model.safetensors", (40).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1]}}', "safetensors"),
        ("saved_model.pb", b"\x08\x01\x12\x00", "SavedModel"),
        ("model.pmml", b'<?xml version="1.0"?>\n<PMML version="4.4">', "PMML"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
        ("model.gguf", b"GGUF\x03", "GGUF"),
        ("model.xml", b'<?xml version="1.0"?>\n<net name="n" version="11">', "OpenVINO"),
        (
            "old.model",
            b"\x00\x00\x00?" + bytes(200) + b"\x0f\0\0\0\0\0\0\0binary:logistic\x06\0\0\0\0\0\0\0gbtree",
            "old binary",
        ),
        ("torch.pkl", b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81.", "PyTorch"),
        ("legacy.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
        ("keras.pkl", b"\x80\x02ckeras.src.models\nSequential\n)\x81.", "keras"),
    ],
)
def test_what_is_recognised_says_what_works_instead(tmp_path: pathlib.Path, name: str, data: bytes, what: str) -> None:
    verdict = sniff.identify(write(tmp_path, name, data))
    assert isinstance(verdict, kinds.Refused)
    assert what in verdict.what
    assert verdict.hint


@pytest.mark.parametrize("data", [b"hello", b"{}", bytes(100), b"\x08\x01", b"a,b\n1,2\n"])
def test_the_rest_is_not_known(tmp_path: pathlib.Path, data: bytes) -> None:
    assert sniff.identify(write(tmp_path, "file.bin", data)) is None


def test_classes_are_found_by_their_predict_or_a_base_in_the_file(tmp_path: pathlib.Path) -> None:
    source = """
class Base:
    def predict(self, x): return x
class Derived(Base): ...
class Other: ...
class _Hidden(Base): ...
class Loop(Loop): ...
"""
    assert sniff.model_classes(write(tmp_path, "model.py", source)) == ("Base", "Derived")


def test_an_unreadable_file_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="cannot be read"):
        sniff.identify(tmp_path)
