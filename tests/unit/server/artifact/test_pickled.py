from __future__ import annotations

import pathlib

import pytest

from mlship import errors
from mlship.server.artifact import kinds, pickled, pickles

PATH = pathlib.Path("folder-that-is-not-there/model.pkl")


def scan(root: str, *names: str, **fields: object) -> pickles.Scan:
    values = {"versions": {}, "compression": "", "by_value": False, "complete": True, "detail": "", "size": 9}
    return pickles.Scan(root=root, globals=tuple(sorted({root, *names})), **{**values, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("root", "form"),
    [
        ("sklearn.pipeline.Pipeline", "sklearn"),
        ("xgboost.sklearn.XGBClassifier", "xgboost"),
        ("xgboost.core.Booster", "xgboost"),
        ("lightgbm.sklearn.LGBMRegressor", "lightgbm"),
        ("catboost.core.CatBoostClassifier", "catboost"),
        ("email.message.Message", "sklearn"),
    ],
)
def test_the_root_decides_the_format(root: str, form: str) -> None:
    found = pickled.classify(PATH, scan(root, "numpy.ndarray", "xgboost.core.Booster"))
    assert isinstance(found, kinds.Found)
    assert found.format == form


@pytest.mark.parametrize(
    "name",
    ["posix.system", "os.popen", "subprocess.Popen", "builtins.eval", "builtins.exec", "socket.socket", "ctypes.CDLL"],
)
def test_what_reaches_for_the_machine_is_refused_unless_vouched_for(name: str) -> None:
    found = scan("sklearn.pipeline.Pipeline", name)
    with pytest.raises(errors.SpecError, match=f"would call or use {name}, which no model needs"):
        pickled.classify(PATH, found)
    assert isinstance(pickled.classify(PATH, found, trusted={name}), kinds.Found)


@pytest.mark.parametrize(
    ("names", "fields", "variant"),
    [
        (("joblib.numpy_pickle.NumpyArrayWrapper",), {}, "joblib"),
        ((), {"compression": "zlib"}, "joblib"),
        (("cloudpickle.cloudpickle._make_function",), {}, "cloudpickle"),
        ((), {}, "pickle"),
    ],
)
def test_how_it_was_stored(names: tuple[str, ...], fields: dict[str, object], variant: str) -> None:
    found = pickled.classify(PATH, scan("sklearn.svm._classes.SVC", *names, **fields))
    assert isinstance(found, kinds.Found)
    assert found.variant == variant


def test_a_missing_library_within_a_pipeline_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = kinds.is_installed
    monkeypatch.setattr(kinds, "is_installed", lambda name: name != "lightgbm" and installed(name))
    with pytest.raises(
        errors.SpecError, match=r"needs lightgbm.sklearn.LGBMClassifier, and lightgbm is not installed"
    ) as caught:
        pickled.classify(PATH, scan("sklearn.pipeline.Pipeline", "lightgbm.sklearn.LGBMClassifier"))
    assert caught.value.hint == "pip install 'mlship[lightgbm]'"
