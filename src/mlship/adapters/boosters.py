"""Gradient boosting: XGBoost, LightGBM and CatBoost, in their own formats and as pickled scikit-learn wrappers.

A native file is loaded as the library's own Booster, so ``predict`` gives what the library's predict gives (XGBoost and
LightGBM: probabilities), and ``margin`` the raw scores. A pickled wrapper has the outputs of its methods, as in
scikit-learn. Names, number and kinds of the features come from the booster itself. The option ``threads`` limits the
threads of one prediction; without it they are the server's share of the machine, which OpenMP tells LightGBM by itself.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from mlship import errors
from mlship.server import model
from mlship.server.artifact import kinds, schema_file, versions
from mlship.server.frameworks import estimators, frames, rows, signatures, unpickle

_CAP = 300
_MAX_PARSED = 32 << 20


def load_xgboost(artifact: model.Artifact) -> model.Model:
    """Load an XGBoost model (json, ubj, or a pickled Booster or wrapper); see ``model.Load``."""
    xgboost = _library(artifact, "xgboost")
    if artifact.variant in unpickle.VARIANTS:
        fitted = unpickle.load(artifact)
        if not isinstance(fitted, xgboost.Booster):
            if threads := _threads(artifact) or (artifact.threads if fitted.n_jobs in (None, 0, -1) else 0):
                fitted.set_params(n_jobs=threads)
            form = _xgboost_form(fitted.get_booster(), wrapper=True)
            return _serve(
                artifact,
                estimators.methods_of(fitted),
                form,
                values=estimators.class_values(fitted),
                fitted=fitted,
            )
        booster = fitted
    else:
        booster = _open(artifact, lambda: xgboost.Booster(model_file=str(artifact.file)))
    if threads := _threads(artifact) or artifact.threads:
        booster.set_param({"nthread": threads})
    form = _xgboost_form(booster, wrapper=False)
    predict = functools.partial(_xgboost_predict, xgboost, booster, _in_place(booster, form))
    methods = {"predict": predict, "margin": functools.partial(predict, margin=True)}
    # In-place prediction is documented as safe for threads (XGBoost's Python API reference, Booster.inplace_predict).
    return _serve(artifact, methods, form, concurrent=4 if _in_place(booster, form) else 1, fitted=booster)


def _xgboost_predict(xgboost: Any, booster: Any, in_place: bool, data: Any, margin: bool = False) -> Any:
    if in_place:
        return booster.inplace_predict(data, predict_type="margin" if margin else "value")
    named = {} if hasattr(data, "columns") else {"feature_names": booster.feature_names}
    types = {} if hasattr(data, "columns") else {"feature_types": booster.feature_types}
    return booster.predict(xgboost.DMatrix(data, enable_categorical=True, **named, **types), output_margin=margin)


def _in_place(booster: Any, form: frames.Form) -> bool:
    """Whether prediction without a DMatrix gives the same: with trees on plain numbers."""
    name = orjson.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    return name == "gbtree" and isinstance(form, frames.Matrix) and "c" not in (booster.feature_types or ())


def _xgboost_form(booster: Any, *, wrapper: bool) -> frames.Form:
    features = int(booster.num_features())
    names = tuple(booster.feature_names or ())
    types = tuple(booster.feature_types or ())
    learner = _xgboost_learner(booster)
    row = rows.rounded(found) if (found := _xgboost_splits(learner, features)) is not None else ()
    categories = _xgboost_trees(learner).get("cats", {}).get("enc")
    if names and "c" in types and categories and frames.has_pandas():
        values = row or (0.0,) * features
        return frames.Frame(
            tuple(
                _xgboost_column(name, categories, index) if kind == "c" else frames.Column(name, "FP64", example=value)
                for index, (name, kind, value) in enumerate(zip(names, types, values, strict=True))
            )
        )
    named = bool(names) and wrapper and frames.has_pandas()
    return frames.Matrix(features, names, "FP64" if wrapper else "FP32", named=named, row=row)


def _xgboost_learner(booster: Any) -> Mapping[str, Any]:
    """The model as XGBoost's JSON has it; empty when it is too large to be worth parsing."""
    raw = booster.save_raw("json")
    found: Mapping[str, Any] = orjson.loads(raw)["learner"] if len(raw) <= _MAX_PARSED else {}
    return found


def _xgboost_trees(learner: Mapping[str, Any]) -> Mapping[str, Any]:
    booster = learner.get("gradient_booster", {})
    found: Mapping[str, Any] = booster.get("gbtree", booster).get("model", {})
    return found


def _xgboost_column(name: str, categories: Sequence[Any], index: int) -> frames.Column:
    """A column of categories, which the model keeps (since XGBoost 3.1): strings as bytes with offsets, or numbers."""
    known = categories[index] if index < len(categories) else {}
    values, offsets = known.get("values", ()), known.get("offsets", ())
    if len(offsets) > 1:
        return frames.Column(
            name, "BYTES", example=bytes(values[: offsets[1]]).decode("utf-8", "replace"), categories=()
        )
    return frames.Column(name, "", example=values[0] if values else None, categories=())


def _xgboost_splits(learner: Mapping[str, Any], features: int) -> Any:
    trees = _xgboost_trees(learner).get("trees", ())
    pairs = []
    for tree in trees[:50]:
        inner = np.asarray(tree["left_children"]) >= 0
        pairs.append((np.asarray(tree["split_indices"])[inner], np.asarray(tree["split_conditions"])[inner]))
    return rows.thresholds(pairs, features)


def load_lightgbm(artifact: model.Artifact) -> model.Model:
    """Load a LightGBM model (txt, or a pickled Booster or wrapper); see ``model.Load``."""
    lightgbm = _library(artifact, "lightgbm")
    threads = _threads(artifact)
    keywords = {"num_threads": threads} if threads else {}
    refusals = (lightgbm.basic.LightGBMError,)
    if artifact.variant in unpickle.VARIANTS:
        fitted = unpickle.load(artifact)
        if not isinstance(fitted, lightgbm.Booster):
            methods = estimators.methods_of(fitted, keywords=keywords)
            form = _lightgbm_form(fitted.booster_, wrapper=True)
            values = estimators.class_values(fitted)
            return _serve(artifact, methods, form, values=values, refusals=refusals, fitted=fitted)
        booster = fitted
    else:
        booster = _open(artifact, lambda: lightgbm.Booster(model_file=str(artifact.file)))
    methods = {
        "predict": functools.partial(booster.predict, **keywords),
        "margin": functools.partial(booster.predict, raw_score=True, **keywords),
    }
    return _serve(artifact, methods, _lightgbm_form(booster, wrapper=False), refusals=refusals, fitted=booster)


def _lightgbm_form(booster: Any, *, wrapper: bool) -> frames.Form:
    text = booster.model_to_string(num_iteration=20)
    features = int(booster.num_feature())
    names = tuple(booster.feature_name())
    if all(name == f"Column_{index}" for index, name in enumerate(names)):
        names = ()
    pairs = [
        (np.array(numbers.split(), dtype=np.int64), np.array(values.split(), dtype=np.float64))
        for numbers, values in re.findall(r"^split_feature=(.*)$[\s\S]*?^threshold=(.*)$", text, re.MULTILINE)
    ]
    splits = rows.thresholds(pairs, features)
    row = rows.rounded(splits) if splits is not None else ()
    categories = _lightgbm_categories(booster, text)
    if names and categories and frames.has_pandas():
        values = row or (0.0,) * features
        return frames.Frame(tuple(_lightgbm_column(name, categories.get(i), values[i]) for i, name in enumerate(names)))
    return frames.Matrix(features, names, named=bool(names) and wrapper and frames.has_pandas(), row=row)


def _lightgbm_categories(booster: Any, text: str) -> dict[int, tuple[Any, ...]]:
    """The categories that pandas columns had in training, by feature; empty when there were none or it is not clear."""
    known = getattr(booster, "pandas_categorical", None) or []
    found = re.search(r"^feature_infos=(.*)$", text, re.MULTILINE)
    infos = found[1].split() if found else []
    # A numeric feature's info is its range in brackets, a categorical one's the codes it was seen with.
    places = [index for index, info in enumerate(infos) if re.fullmatch(r"-?\d+(?::-?\d+)*", info)]
    return dict(zip(places, map(tuple, known), strict=True)) if len(places) == len(known) else {}


def _lightgbm_column(name: str, categories: tuple[Any, ...] | None, value: float) -> frames.Column:
    if categories is None:
        return frames.Column(name, "FP64", example=value)
    datatype = "BYTES" if all(isinstance(item, str) for item in categories) else "FP64"
    return frames.Column(name, datatype, example=categories[0] if categories else None, categories=categories)


def load_catboost(artifact: model.Artifact) -> model.Model:
    """Load a CatBoost model (cbm, or pickled); see ``model.Load``."""
    catboost = _library(artifact, "catboost")
    threads = _threads(artifact) or artifact.threads
    keywords = {"thread_count": threads} if threads else {}
    if artifact.variant in unpickle.VARIANTS:
        fitted = unpickle.load(artifact)
    else:
        fitted = _open(artifact, lambda: _open_catboost(catboost, str(artifact.file)))
    methods = estimators.methods_of(fitted, keywords=keywords)
    methods.pop("transform", None)
    methods["margin"] = functools.partial(fitted.predict, prediction_type="RawFormulaVal", **keywords)
    values = estimators.class_values(fitted) if isinstance(fitted, catboost.CatBoostClassifier) else None
    return _serve(
        artifact, methods, _catboost_form(artifact, fitted), values=values, refusals=(catboost.CatBoostError,)
    )


def _open_catboost(catboost: Any, path: str) -> Any:
    """The class that was fitted: a classifier keeps its classes among the model's metadata."""
    base = catboost.CatBoost().load_model(path)
    kind = catboost.CatBoostClassifier if "class_params" in base.get_metadata() else catboost.CatBoostRegressor
    return kind().load_model(path)


def _catboost_form(artifact: model.Artifact, fitted: Any) -> frames.Form:
    names = tuple(str(name) for name in fitted.feature_names_)
    features = len(names)
    plain = all(name == str(index) for index, name in enumerate(names))
    if fitted.get_embedding_feature_indices():
        raise errors.SpecError(
            f"{artifact.file.name} takes embeddings as features: recognised, not served yet.",
            hint=f"Wrap it {kinds.WRAP.removeprefix('or wrap it ')}.",
            reason=errors.Reason.UNSUPPORTED,
        )
    borders = {int(index): float(np.median(values)) for index, values in fitted.get_borders().items() if len(values)}
    row = rows.rounded(np.array([borders.get(index, 0.0) for index in range(features)]))
    strings = {index: "" for index in fitted.get_cat_feature_indices()}
    strings |= {index: "BYTES" for index in fitted.get_text_feature_indices()}
    if not strings:
        named = not plain and frames.has_pandas() and artifact.variant in unpickle.VARIANTS
        return frames.Matrix(features, () if plain else names, named=named, row=row)
    return frames.Frame(
        tuple(
            frames.Column(name, strings[index], example="")
            if index in strings
            else frames.Column(name, "FP64", example=row[index])
            for index, name in enumerate(names)
        )
    )


def _library(artifact: model.Artifact, name: str) -> Any:
    library = kinds.LIBRARIES[name]
    if not kinds.is_installed(library.module):
        raise kinds.missing(library, f"{artifact.file.name} is a model of {library.distribution}")
    return importlib.import_module(library.module)


def _threads(artifact: model.Artifact) -> int:
    """The option ``threads``; 0 when it is not given."""
    text = artifact.options.get("threads", "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise errors.SpecError(f"the option threads must be a positive number, got {text[:40]!r}.")
    return int(text) if text else 0


def _open(artifact: model.Artifact, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:
        said = " ".join(str(error).split())[:_CAP].rstrip(".")
        raise errors.ModelError(
            f"{artifact.file.name} does not load: {type(error).__name__}: {said}.",
            hint=versions.hint(artifact.versions) or "Copy the file again, or save the model again.",
        ) from error


def _serve(
    artifact: model.Artifact,
    methods: Mapping[str, Callable[[Any], Any]],
    form: frames.Form,
    *,
    values: Any = None,
    concurrent: int = 1,
    refusals: tuple[type[Exception], ...] = (),
    fitted: Any = None,
) -> model.Model:
    schema = schema_file.of(artifact)
    served = estimators.Estimator(
        methods,
        form=signatures.refine_form(form, schema),
        platform=f"{artifact.format}_{artifact.variant}",
        class_values=values,
        schema=schema,
        concurrent=concurrent,
        refusals=refusals,
        fitted=fitted,
        quick=True,
        known_as=estimators.known_as(artifact),
    )
    return signatures.labelled(served, schema)
