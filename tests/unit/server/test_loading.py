from __future__ import annotations

import importlib.metadata
import pathlib
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server import loading
from mlship.server import model as contract
from mlship.server.artifact import find

SOURCE = loading.Source(name="iris", version="1", path=pathlib.Path("/nowhere"))
KNOWN = messages.Signature(inputs=(messages.TensorSpec("x", "FP32", (-1, 2)),))


class Model:
    platform = "test"

    def __init__(
        self, signature: messages.Signature = KNOWN, fails: BaseException | None = None, **extras: Any
    ) -> None:
        self.signature = signature
        self.fails = fails
        self.rows: list[Any] = []
        self.closed = 0
        for name, value in extras.items():
            setattr(self, name, value)

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        self.rows.append(inputs)
        if self.fails is not None:
            raise self.fails
        return {"y": inputs["x"]}

    def close(self) -> None:
        self.closed += 1


def load(model: Any = None, error: BaseException | None = None) -> loading.Loaded:
    def open_model(source: loading.Source) -> Any:
        if error is not None:
            raise error
        return model

    return loading.load(SOURCE, open_model=open_model, run_coroutine=lambda coroutine: coroutine.close())


def test_a_model_has_answered_once_before_it_is_loaded() -> None:
    model = Model()
    loaded = load(model)
    assert loaded.model is model
    assert model.rows[0]["x"].tolist() == [[0.0, 0.0]]


def test_the_models_own_row_is_used() -> None:
    model = Model(example=lambda: {"x": np.asarray([[5.0, 6.0]])})
    load(model)
    assert model.rows[0]["x"].tolist() == [[5.0, 6.0]]


def test_an_unknown_signature_is_loaded_without_a_warm_up() -> None:
    model = Model(signature=messages.Signature(known=False))
    assert load(model).example is None
    assert model.rows == []


@pytest.mark.parametrize("error", [ValueError("bad\nshape"), SystemExit(1), errors.ModelError("bad shape")])
def test_a_warm_up_that_fails_is_a_model_that_is_not_loaded(error: BaseException) -> None:
    model = Model(fails=error)
    with pytest.raises(errors.ModelError, match='model "iris" version 1 failed its warm-up inference: ') as caught:
        load(model)
    assert caught.value.__cause__ is error
    assert "\n" not in caught.value.message
    assert model.closed == 1


def test_a_made_up_row_may_be_refused_but_not_the_models_own() -> None:
    refused = errors.SpecError("no such city")
    load(Model(fails=refused))
    model = Model(fails=refused, example=lambda: {"x": np.zeros((1, 2))})
    with pytest.raises(errors.ModelError, match="refused its own example row: no such city"):
        load(model)
    assert model.closed == 1


def test_an_example_that_fails_is_said() -> None:
    def example() -> Any:
        raise KeyError("x")

    with pytest.raises(errors.ModelError, match="failed to name an example row: KeyError: 'x'"):
        load(Model(example=example))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("broken " * 200), "could not be loaded: ValueError: broken"),
        (SystemExit(2), "could not be loaded: SystemExit: 2"),
        (ModuleNotFoundError("No module named 'zzz'", name="zzz"), "needs a module that is not installed"),
    ],
)
def test_foreign_errors_are_translated_with_the_cause(error: BaseException, said: str) -> None:
    with pytest.raises(errors.ModelError, match=said) as caught:
        load(error=error)
    assert caught.value.__cause__ is error
    assert len(caught.value.message) < 400


def test_our_own_errors_pass() -> None:
    error = errors.SpecError("no model there")
    with pytest.raises(errors.SpecError) as caught:
        load(error=error)
    assert caught.value is error


def test_a_coroutine_model_is_warmed_up_on_its_loop() -> None:
    class Async(Model):
        async def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
            return {}

    seen: list[Any] = []

    def run(coroutine: Any) -> None:
        seen.append(coroutine)
        coroutine.close()

    loading.load(SOURCE, open_model=lambda source: Async(), run_coroutine=run)
    assert len(seen) == 1


def test_a_format_without_adapter_lists_those_there_are() -> None:
    with pytest.raises(errors.SpecError, match='no adapter for the model format "cobol"') as caught:
        loading.adapter("cobol")
    assert "sklearn" in caught.value.message


def test_an_adapter_that_cannot_be_imported_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint(name="sklearn", value="no_such_module_here:load", group=loading.ADAPTERS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: importlib.metadata.EntryPoints([entry]))
    with pytest.raises(errors.ModelError, match="no_such_module_here") as caught:
        loading.adapter("sklearn")
    assert caught.value.hint == "Install what it needs: pip install 'mlship[sklearn]'."


def test_a_library_that_differs_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = SOURCE.path
    recorded = {"scikit-learn": "0.1.0", "numpy": np.__version__}
    found = contract.Artifact(path=path, file=path, format="sklearn", variant="pickle", versions=recorded)
    monkeypatch.setattr(find, "inspect", lambda path, **_: found)
    monkeypatch.setattr(loading, "adapter", lambda name: lambda artifact: Model())
    loading.from_disk(SOURCE)
    (record,) = [record for record in caplog.records if record.message == "library version differs"]
    assert "0.1.0" in record.mlship_fields["why"]  # type: ignore[attr-defined]
