"""Reads a fitted pipeline for what it takes: which columns, of numbers or of strings, or texts, or records.

scikit-learn keeps what each transformer learned: an encoder its categories, an imputer its statistics, a
ColumnTransformer which columns go where. From that follow the datatype of every column, what stands for a missing
value, and a plausible value. Attributes are read by ``getattr`` and classes by name, so no library is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mlship.server.frameworks import frames, rows

_VECTORIZERS = frozenset({"TfidfVectorizer", "CountVectorizer", "HashingVectorizer"})
_ENCODERS = frozenset({"OneHotEncoder", "OrdinalEncoder", "TargetEncoder"})
# First steps that need the DataFrame itself, or of which nobody can say what they take.
_OPEN = frozenset({"FunctionTransformer", "ColumnTransformer", "FeatureUnion"})
_LIBRARIES = ("sklearn.", "xgboost.", "lightgbm.", "catboost.", "imblearn.")
_MAX_RECORD_FIELDS = 1000


def form(estimator: Any) -> frames.Form:
    """How ``estimator`` wants its data, as far as it can be told.

    Raises ``errors.SpecError`` naming the extra when only a DataFrame will do and pandas is not installed.
    """
    first = rows.inner(estimator)
    kinds = _kinds(first)
    if kinds & _VECTORIZERS:
        return frames.Texts(sample=_words(first))
    if "DictVectorizer" in kinds:
        return _records(first)
    if "FeatureUnion" in kinds and _all_texts(first):
        return frames.Texts(sample=_words(first.transformer_list[0][1]))
    names = _names(estimator) or _names(first)
    features = _count(estimator) or _count(first)
    if not features and not names:
        return frames.Anything()
    if names and _selects_by_name(first):
        frames.pandas()
    named = names and frames.has_pandas()
    if "ColumnTransformer" in kinds or kinds & _ENCODERS or "SimpleImputer" in kinds or _preprocessor(first):
        return _by_steps(first, names if named else (), features or len(names))
    if named and (kinds & _OPEN or not type(first).__module__.startswith(_LIBRARIES)):
        return frames.Frame(tuple(frames.Column(name) for name in names))
    return frames.Matrix(
        features=features or len(names),
        columns=names,
        named=bool(named),
        row=rows.typical(estimator, features or len(names)),
    )


def _selects_by_name(estimator: Any) -> bool:
    """Whether columns are chosen by their names, which only a DataFrame has."""
    chosen = [columns for _, _, columns in getattr(estimator, "transformers_", ())]
    return any(isinstance(one, str) or _has_text(one) for one in chosen)


def _has_text(columns: Any) -> bool:
    return isinstance(columns, list | tuple | np.ndarray) and any(isinstance(column, str) for column in columns)


def _kinds(estimator: Any) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(estimator).__mro__)


def _names(estimator: Any) -> tuple[str, ...]:
    names = getattr(estimator, "feature_names_in_", None)
    return tuple(str(name) for name in names) if names is not None else ()


def _count(estimator: Any) -> int:
    try:
        return int(getattr(estimator, "n_features_in_", 0) or 0)
    except (TypeError, ValueError):
        return 0


def _all_texts(union: Any) -> bool:
    members = [rows.inner(member) for _, member in union.transformer_list]
    return bool(members) and all(_kinds(member) & _VECTORIZERS for member in members)


def _words(vectorizer: Any) -> str:
    """A few words the vectorizer knows, the most common ones where it can tell."""
    vectorizer = rows.inner(vectorizer)
    vocabulary = getattr(vectorizer, "vocabulary_", None)
    if not isinstance(vocabulary, dict) or not vocabulary:
        return "text"
    words = [word for word in sorted(vocabulary) if isinstance(word, str)]
    weights = getattr(vectorizer, "idf_", None) if "TfidfVectorizer" in _kinds(vectorizer) else None
    if weights is not None:
        words.sort(key=lambda word: (float(weights[vocabulary[word]]), word))
    return " ".join(words[:3])


def _records(vectorizer: Any) -> frames.Form:
    separator = getattr(vectorizer, "separator", "=")
    found: dict[str, frames.Column] = {}
    for feature in list(getattr(vectorizer, "feature_names_", ()))[:_MAX_RECORD_FIELDS]:
        name, mark, value = str(feature).partition(separator)
        datatype, example = ("BYTES", value) if mark else ("FP64", 0.0)
        known = found.get(name)
        if known is None:
            found[name] = frames.Column(name, datatype, missing=None, optional=True, example=example)
        elif known.datatype != datatype:
            found[name] = frames.Column(name, "", missing=None, optional=True, example=example)
    return frames.Records(tuple(found.values())) if found else frames.Anything()


def _preprocessor(estimator: Any) -> Any:
    """The encoder of categories inside scikit-learn's histogram gradient boosting."""
    return getattr(estimator, "_preprocessor", None)


def _by_steps(first: Any, names: Sequence[str], features: int) -> frames.Form:
    labels = list(names) or [str(index) for index in range(features)]
    found = {name: frames.Column(name, "", optional=True) for name in labels}
    for column in _columns(_preprocessor(first) or first, labels):
        known = found.get(column.name)
        # A column that is also passed through counts as one of numbers until a transformer says otherwise.
        if known is None or known.optional or not known.datatype or column.datatype == "BYTES":
            found[column.name] = column
    parts = tuple(found[name] for name in labels)
    return frames.Frame(parts) if names else _mixed(parts)


def _mixed(parts: Sequence[frames.Column]) -> frames.Form:
    """Columns without names: one matrix, of strings, of numbers, or of both."""
    datatypes = {part.datatype for part in parts if not part.optional}
    datatype = datatypes.pop() if len(datatypes) == 1 else ""
    blank: Any = "" if datatype == "BYTES" else 0.0
    row = tuple(blank if part.example is None else part.example for part in parts)
    return frames.Matrix(features=len(parts), datatype=datatype, row=row)


def _columns(transformer: Any, labels: Sequence[str]) -> list[frames.Column]:
    """What a fitted transformer that gets the columns ``labels`` says about each of them."""
    kinds = _kinds(transformer)
    if "ColumnTransformer" in kinds:
        return [
            column
            for _, part, chosen in transformer.transformers_
            for column in _chosen(part, _select(chosen, labels), isinstance(chosen, str))
        ]
    if "FeatureUnion" in kinds:
        return [column for _, part in transformer.transformer_list for column in _columns(part, labels)]
    steps = getattr(transformer, "steps", None)
    if isinstance(steps, list):
        return _first_decided([_columns(step, labels) for _, step in steps if hasattr(step, "fit")], labels)
    if kinds & _ENCODERS:
        return [_encoded(name, values) for name, values in zip(labels, transformer.categories_, strict=False)]
    if "SimpleImputer" in kinds:
        return _imputed(transformer, labels)
    if kinds & _OPEN or not type(transformer).__module__.startswith(_LIBRARIES):
        return [frames.Column(name) for name in labels]
    values = rows.typical(transformer, len(labels))
    return [frames.Column(name, "FP64", example=value) for name, value in zip(labels, values, strict=True)]


def _chosen(part: Any, names: Sequence[str], single: bool) -> Iterable[frames.Column]:
    if isinstance(part, str):
        if part == "drop":
            return [frames.Column(name, "", optional=True) for name in names]
        return [frames.Column(name, "FP64", example=0.0) for name in names]
    if single and _kinds(rows.inner(part)) & _VECTORIZERS:
        return [frames.Column(name, "BYTES", missing=None, example=_words(part)) for name in names]
    if "FunctionTransformer" in _kinds(part) and _is_plain(part.func):
        return [frames.Column(name, "FP64", example=0.0) for name in names]
    return _columns(part, names)


def _is_plain(function: Any) -> bool:
    """What newer versions write for "passthrough", and what histogram gradient boosting does to numbers."""
    inner = getattr(function, "func", None)
    return function is None or getattr(inner, "__name__", "") == "check_array"


def _select(chosen: Any, labels: Sequence[str]) -> list[str]:
    """The names of chosen columns: a name, names, positions, a slice or a mask."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            start = labels.index(chosen.start) if chosen.start is not None else 0
            stop = labels.index(chosen.stop) + 1 if chosen.stop is not None else len(labels)
            return list(labels[start:stop])
        return list(labels[chosen])
    if np.isscalar(chosen):
        return [labels[int(chosen)]]  # type: ignore[arg-type]
    items = list(chosen)
    if items and all(isinstance(item, bool | np.bool_) for item in items):
        return [name for name, keep in zip(labels, items, strict=True) if keep]
    return [item if isinstance(item, str) else labels[int(item)] for item in items]


def _first_decided(answers: Sequence[list[frames.Column]], labels: Sequence[str]) -> list[frames.Column]:
    """Of several steps over the same columns, the first that knows a column's datatype; missing is step one's."""
    result = []
    for index, name in enumerate(labels):
        choices = [answer[index] for answer in answers if len(answer) == len(labels)]
        decided = [column for column in choices if column.datatype] or choices[:1] or [frames.Column(name)]
        missing = choices[0].missing if choices else math.nan
        known = decided[0]
        result.append(frames.Column(name, known.datatype, missing, known.optional, known.example))
    return result


def _encoded(name: str, categories: Any) -> frames.Column:
    """A column that an encoder knows the values of."""
    values = np.asarray(categories)
    present = [value for value in values.tolist() if value is not None and value == value]
    missing = None if any(value is None for value in values.tolist()) else math.nan
    if not present:
        return frames.Column(name, "", missing)
    if all(isinstance(value, str) for value in present):
        return frames.Column(name, "BYTES", missing, example=present[0])
    if values.dtype.kind == "b":
        return frames.Column(name, "BOOL", missing, example=present[0])
    if values.dtype.kind in "iuf":
        return frames.Column(name, "FP64", missing, example=present[0])
    return frames.Column(name, "", missing, example=present[0])


def _imputed(imputer: Any, labels: Sequence[str]) -> list[frames.Column]:
    """Columns whose gaps an imputer fills: the filling says what the column holds."""
    missing = getattr(imputer, "missing_values", math.nan)
    missing = missing if missing is None or isinstance(missing, float) else math.nan
    found = []
    for name, filling in zip(labels, np.asarray(imputer.statistics_, dtype=object).tolist(), strict=False):
        datatype = "BYTES" if isinstance(filling, str) else "FP64"
        found.append(frames.Column(name, datatype, missing, example=_example(filling)))
    return found


def _example(filling: Any) -> Any:
    if isinstance(filling, float | int) and math.isfinite(filling):
        return float(f"{filling:.4g}")
    return filling if isinstance(filling, str) else None
