from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import compose, ensemble, feature_extraction, impute, linear_model, pipeline, preprocessing

from mlship import errors
from mlship.server.artifact import kinds
from mlship.server.frameworks import frames, steps

TABLE = pd.DataFrame(
    {
        "age": [20.0, 30.0, np.nan, 50.0],
        "city": ["Oslo", "Rome", "Rome", None],
        "level": [1, 2, 3, 2],
        "vip": [True, False, True, True],
        "note": ["good day", "bad day", "good", "day"],
    }
)
TARGET = [0, 1, 0, 1]


def columns(transformers: list[Any], **options: Any) -> dict[str, frames.Column]:
    table = TABLE.drop(columns=options.pop("without", []))
    fitted = compose.ColumnTransformer(transformers, **options).fit(table, TARGET)
    form = steps.form(fitted)
    assert isinstance(form, frames.Frame)
    assert form.columns == tuple(table.columns)
    return {part.name: part for part in form.parts}


def test_every_kind_of_column() -> None:
    found = columns(
        [
            ("age", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["age"]),
            ("city", preprocessing.OneHotEncoder(), ["city"]),
            ("level", preprocessing.OrdinalEncoder(), ["level"]),
            ("vip", preprocessing.OneHotEncoder(), ["vip"]),
            ("note", feature_extraction.text.TfidfVectorizer(), "note"),
        ]
    )
    assert {name: part.datatype for name, part in found.items()} == {
        "age": "FP64",
        "city": "BYTES",
        "level": "FP64",
        "vip": "BOOL",
        "note": "BYTES",
    }
    assert found["city"].example == "Oslo"
    assert found["age"].example == pytest.approx(33.33)
    assert set(found["note"].example.split()) <= {"good", "bad", "day"}


def test_passed_through_dropped_and_open_columns() -> None:
    found = columns(
        [
            ("level", "passthrough", ["level"]),
            ("gone", "drop", ["vip"]),
            ("own", preprocessing.FunctionTransformer(lambda table: table), ["age"]),
        ],
        without=["note", "city"],
    )
    assert {name: (part.datatype, part.optional) for name, part in found.items()} == {
        "age": ("", False),
        "level": ("FP64", False),
        "vip": ("", True),
    }


@pytest.mark.parametrize("chosen", [["age", "level"], [0, 2], slice(0, 3, 2), [True, False, True, False, False]])
def test_columns_are_chosen_in_many_ways(chosen: Any) -> None:
    found = columns([("numbers", preprocessing.StandardScaler(), chosen)])
    assert [name for name, part in found.items() if not part.optional] == ["age", "level"]


def test_a_column_of_two_transformers_keeps_what_is_known() -> None:
    found = columns(
        [("own", preprocessing.FunctionTransformer(), ["city"]), ("city", preprocessing.OneHotEncoder(), ["city"])]
    )
    assert found["city"].datatype == "BYTES"


def test_the_missing_value_is_the_one_the_encoder_learned() -> None:
    table = pd.DataFrame({"city": pd.Series(["Oslo", None, "Rome", "Rome"], dtype=object)})
    fitted = preprocessing.OneHotEncoder().fit(table)
    form = steps.form(fitted)
    assert isinstance(form, frames.Frame)
    assert form.parts[0].missing is None
    row = form.read({"city": np.array([None], dtype=object)})
    assert fitted.transform(row).toarray().sum() == 1


def test_imputed_strings() -> None:
    step = impute.SimpleImputer(strategy="constant", fill_value="none")
    fitted = pipeline.make_pipeline(step, preprocessing.OneHotEncoder()).fit(TABLE[["city"]])
    form = steps.form(fitted)
    assert isinstance(form, frames.Frame)
    assert (form.parts[0].datatype, form.parts[0].example) == ("BYTES", "none")


def test_numbers_with_and_without_names() -> None:
    named = steps.form(linear_model.LinearRegression().fit(TABLE[["level"]], TARGET))
    assert isinstance(named, frames.Matrix)
    assert (named.columns, named.named) == (("level",), True)
    plain = steps.form(linear_model.LinearRegression().fit(TABLE[["level"]].to_numpy(), TARGET))
    assert isinstance(plain, frames.Matrix)
    assert (plain.columns, plain.named, plain.features) == ((), False, 1)


def test_a_matrix_of_strings_and_one_of_both() -> None:
    words = np.array([["a", "b"], ["c", "d"]], dtype=object)
    form = steps.form(preprocessing.OneHotEncoder().fit(words))
    assert isinstance(form, frames.Matrix)
    assert (form.datatype, form.row) == ("BYTES", ("a", "b"))
    both = np.array([["a", 1.0], ["c", 2.0]], dtype=object)
    split = compose.ColumnTransformer(
        [("w", preprocessing.OneHotEncoder(), [0]), ("n", preprocessing.StandardScaler(), [1])]
    )
    form = steps.form(split.fit(both))
    assert isinstance(form, frames.Matrix)
    assert (form.datatype, form.row) == ("", ("a", 1.5))


def test_the_users_own_first_step_gets_a_frame_of_open_columns() -> None:
    first = preprocessing.FunctionTransformer(lambda table: table[["level"]])
    form = steps.form(
        pipeline.make_pipeline(first, linear_model.LinearRegression()).fit(TABLE[["level", "city"]], TARGET)
    )
    if not isinstance(form, frames.Anything):  # a function remembers no names unless it validates
        assert isinstance(form, frames.Frame)
        assert [part.datatype for part in form.parts] == ["", ""]


def test_categories_inside_histogram_boosting() -> None:
    table = pd.DataFrame({"city": pd.Categorical(["a", "b"] * 20), "size": np.arange(40.0)})
    fitted = ensemble.HistGradientBoostingClassifier(max_iter=2).fit(table, [0, 1] * 20)
    form = steps.form(fitted)
    assert isinstance(form, frames.Frame)
    assert {part.name: part.datatype for part in form.parts}["city"] == "BYTES"
    assert np.array_equal(fitted.predict(form.read(form.example())), fitted.predict(table.iloc[:1].assign(size=0.0)))


def test_texts() -> None:
    union = pipeline.make_union(
        feature_extraction.text.CountVectorizer(), feature_extraction.text.TfidfVectorizer(analyzer="char")
    )
    for vectorizer in (union, feature_extraction.text.HashingVectorizer()):
        form = steps.form(vectorizer.fit(["one two", "two three"]))
        assert isinstance(form, frames.Texts)
        assert form.sample


def test_records_say_strings_numbers_or_both() -> None:
    fitted = feature_extraction.DictVectorizer().fit([{"a": "x", "b": 1, "c": "y"}, {"c": 2}])
    form = steps.form(fitted)
    assert isinstance(form, frames.Records)
    assert {field.name: field.datatype for field in form.fields} == {"a": "BYTES", "b": "FP64", "c": ""}


def test_nothing_is_known_of_other_objects() -> None:
    assert isinstance(steps.form(object()), frames.Anything)


def test_columns_chosen_by_name_need_pandas_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = compose.ColumnTransformer([("age", preprocessing.StandardScaler(), ["age"])]).fit(TABLE, TARGET)
    by_place = compose.ColumnTransformer([("age", preprocessing.StandardScaler(), [0])]).fit(TABLE, TARGET)
    monkeypatch.setattr(kinds, "is_installed", lambda _: False)
    frames.pandas.cache_clear()
    with pytest.raises(errors.SpecError, match=r"pip install 'mlship\[pandas\]'"):
        steps.form(by_name)
    assert not isinstance(steps.form(by_place), frames.Anything)
