from __future__ import annotations

import os
import pathlib
import pickle
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model

import models
from mlship import errors
from mlship.server.artifact import find, kinds

FITTED = linear_model.LinearRegression().fit(np.arange(4.0).reshape(2, 2), [0, 1])


def refused(path: pathlib.Path, **arguments: Any) -> str:
    with pytest.raises(errors.SpecError) as caught:
        find.inspect(path, **arguments)
    return str(caught.value)


def write(folder: pathlib.Path, name: str, data: bytes | str) -> pathlib.Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


class Attack:
    def __init__(self, witness: pathlib.Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def test_a_file_is_found_with_its_versions_and_the_options(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    found = find.inspect(tmp_path / "model.joblib", options={"threads": "2"})
    assert (found.format, found.variant) == ("sklearn", "joblib")
    assert found.path == found.file == tmp_path / "model.joblib"
    assert found.versions["scikit-learn"]
    assert found.options == {"threads": "2"}


def test_a_folder_with_one_model_and_its_papers(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    for name in ("README.md", "requirements.txt", "train.py", "helper.py", ".hidden", "LICENSE", "config.json"):
        write(tmp_path, name, "{}")
    write(tmp_path, "model.schema.yaml", "columns: [a, b]")
    found = find.inspect(tmp_path)
    assert found.file == tmp_path / "model.joblib"
    assert found.path == tmp_path
    assert '"columns":["a","b"]' in found.options["schema"]


def test_the_schema_beside_a_file_is_read(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    write(tmp_path, "model.schema.yaml", "colums: [a, b]")
    assert "did you mean 'columns'" in refused(tmp_path / "model.joblib")


def test_a_model_in_a_subfolder_is_found(tmp_path: pathlib.Path) -> None:
    inner = tmp_path / "models" / "1"
    inner.mkdir(parents=True)
    joblib.dump(FITTED, inner / "model.joblib")
    assert find.inspect(tmp_path).file == inner / "model.joblib"


def test_several_models_are_listed_and_a_format_may_choose(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "a.joblib")
    models.xgboost_json(tmp_path)
    said = refused(tmp_path)
    assert "holds 2 models: a.joblib (a joblib file of sklearn" in said
    assert "iris.json (an XGBoost model (json))" in said
    assert find.inspect(tmp_path, format="xgboost").file.name == "iris.json"


def test_a_python_folder_prefers_model_py(tmp_path: pathlib.Path) -> None:
    source = "class Model:\n    def predict(self, x):\n        return x\n"
    write(tmp_path, "model.py", source)
    write(tmp_path, "other.py", source)
    assert find.inspect(tmp_path).file == tmp_path / "model.py"


def test_a_package_is_given_as_its_folder(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "__init__.py", "class Model:\n    async def predict(self, x):\n        return x\n")
    write(tmp_path, "helper.py", "x = 1")
    found = find.inspect(tmp_path)
    assert (found.format, found.file) == ("python", tmp_path)


def test_code_beside_a_pickle_is_no_candidate(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    write(tmp_path, "wrap.py", "class Wrap:\n    def predict(self, x):\n        return x\n")
    assert find.inspect(tmp_path).format == "sklearn"


def test_data_beside_a_model_is_no_second_model(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    write(tmp_path, "_SUCCESS", b"")
    write(tmp_path, "data.zip", b"PK\x03\x04broken")
    assert find.inspect(tmp_path).file.name == "model.joblib"


def test_code_with_weights_of_an_unserved_format_is_the_model(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "wrap.py", "class Wrap:\n    def predict(self, x):\n        return x\n")
    write(tmp_path, "weights.h5", b"\x89HDF\r\n\x1a\n")
    assert find.inspect(tmp_path).file.name == "wrap.py"


def test_model_py_beside_a_pickle_must_be_chosen(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "scaler.joblib")
    write(tmp_path, "model.py", "class Model:\n    def predict(self, x):\n        return x\n")
    assert "holds 2 models: scaler.joblib (a joblib file" in refused(tmp_path)
    assert find.inspect(tmp_path, format="python").file.name == "model.py"
    assert find.inspect(tmp_path, format="sklearn").file.name == "scaler.joblib"


def test_several_broken_files_are_all_told(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.pkl", b"")
    write(tmp_path, "b.pkl", pickle.dumps(FITTED)[:60])
    said = refused(tmp_path)
    assert "a.pkl is empty (0 bytes)" in said
    assert "b.pkl is a truncated pickle" in said


def test_missing_empty_and_odd_paths(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "other.txt", "x")
    assert "does not exist" in refused(tmp_path / "model.pkl")
    assert "other.txt" in refused(tmp_path / "model.pkl")
    assert "holds no model file; it holds other.txt" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is an empty folder" in refused(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refused(tmp_path / "pipe")


def test_a_broken_model_in_a_folder_is_the_answer(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "model.pkl", pickle.dumps(FITTED)[:60])
    assert "truncated pickle: it ends after 60 bytes" in refused(tmp_path)


def test_unknown_files_are_refused_with_what_is_served(tmp_path: pathlib.Path) -> None:
    said = refused(write(tmp_path, "model.bin", bytes(range(256)) * 4))
    assert "is no model file that is known here" in said
    assert "CatBoost cbm" in said


def test_the_wrong_format_names_both(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    said = refused(tmp_path / "model.joblib", format="xgboost")
    assert "the format given is xgboost, but model.joblib is a joblib file of sklearn.linear_model" in said
    assert "give sklearn" in said


def test_formats_are_known_by_their_usual_names(tmp_path: pathlib.Path) -> None:
    joblib.dump(FITTED, tmp_path / "model.joblib")
    assert find.inspect(tmp_path / "model.joblib", format="scikit-learn").format == "sklearn"
    assert "did you mean 'sklearn'?" in refused(tmp_path / "model.joblib", format="sklaern")
    assert "recognised, not served yet" in refused(tmp_path / "model.joblib", format="pytorch")
    assert "holds no MLmodel" in refused(tmp_path, format="mlflow")


def test_a_wrapper_may_be_served_as_scikit_learn(tmp_path: pathlib.Path) -> None:
    made = models.xgboost_wrapper(tmp_path)
    assert find.inspect(made.path).format == "xgboost"
    assert find.inspect(made.path, format="sklearn").format == "sklearn"


def test_a_pipeline_that_ends_in_xgboost_is_a_scikit_learn_model(tmp_path: pathlib.Path) -> None:
    import xgboost
    from sklearn import pipeline, preprocessing

    fitted = pipeline.make_pipeline(preprocessing.StandardScaler(), xgboost.XGBClassifier(n_estimators=2))
    joblib.dump(fitted.fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]), tmp_path / "model.joblib")
    assert find.inspect(tmp_path / "model.joblib").format == "sklearn"


def test_an_attack_is_refused_and_never_runs(tmp_path: pathlib.Path) -> None:
    witness = tmp_path / "witness"
    path = write(tmp_path, "model.pkl", pickle.dumps(Attack(witness)))
    assert "posix.system, which no model needs" in refused(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"model": 1}, "a pickle of a dict with the keys 'model', not of a fitted model"),
        ([1], "a pickle of a list of 1 entries"),
        (np.zeros(3), "a pickle of a numpy.ndarray"),
        (pd.DataFrame({"a": [1]}), "a pickle of a pandas.DataFrame"),
    ],
)
def test_data_is_no_model(tmp_path: pathlib.Path, value: Any, said: str) -> None:
    plain = write(tmp_path, "model.pkl", pickle.dumps(value))
    assert said in refused(plain)


def test_a_missing_library_names_the_extra(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = models.xgboost_json(tmp_path)
    wrapper = models.xgboost_wrapper(tmp_path)
    installed = kinds.is_installed
    monkeypatch.setattr(kinds, "is_installed", lambda name: name != "xgboost" and installed(name))
    assert "pip install 'mlship[xgboost]'" in refused(made.path)
    assert "pip install 'mlship[xgboost]'" in refused(wrapper.path)


def test_a_class_of_a_missing_module_names_it(tmp_path: pathlib.Path) -> None:
    data = b"\x80\x04cmy_company_models\nChurnModel\n)\x81."
    path = write(tmp_path, "model.pkl", data)
    said = refused(path)
    assert "needs my_company_models.ChurnModel, but the module 'my_company_models' cannot be imported here" in said
    write(tmp_path, "my_company_models.py", "class ChurnModel: ...")
    assert find.inspect(path).format == "sklearn"


def test_a_class_of_a_script_is_explained(tmp_path: pathlib.Path) -> None:
    said = refused(write(tmp_path, "model.pkl", b"\x80\x04c__main__\nMyModel\n)\x81."))
    assert "needs MyModel, which was defined in a script or notebook" in said
    assert "cloudpickle" in said
