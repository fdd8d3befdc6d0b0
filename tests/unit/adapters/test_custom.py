from __future__ import annotations

import asyncio
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages

Serve = Callable[..., Any]
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test leaves the interpreter as it found it, closed models or not."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.startswith("served") and name not in before]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    def save(source: str, name: str = "served.py") -> pathlib.Path:
        (tmp_path / name).write_text(source)
        return tmp_path / name

    return save


def answer(model: Any, inputs: dict[str, Any], **parameters: Any) -> Any:
    return model.infer(inputs, outputs=(), parameters=parameters)


def test_an_array_goes_in_and_out(write: Any, serve: Serve) -> None:
    model = serve(write("class Model:\n    def predict(self, x):\n        return x * 2\n"))
    assert not model.signature.known
    assert not model.is_async
    assert np.array_equal(answer(model, {"any": ROWS})["output-0"], ROWS * 2)
    with pytest.raises(errors.SpecError, match="takes one array, got 2 inputs: a, b"):
        answer(model, {"a": ROWS, "b": ROWS})


def test_inputs_are_a_mapping_by_name_of_the_parameter(write: Any, serve: Serve) -> None:
    model = serve(
        write("class Model:\n    def predict(self, inputs):\n        return {'sum': inputs['a'] + inputs['b']}\n")
    )
    assert np.array_equal(answer(model, {"a": ROWS, "b": ROWS})["sum"], ROWS * 2)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("dict[str, np.ndarray]", "dict"),
        ("np.ndarray", "ndarray"),
        ("pd.DataFrame", "DataFrame"),
        ("list", "list"),
        ("'list[float]'", "list"),
    ],
)
def test_an_annotation_decides_what_comes(write: Any, serve: Serve, annotation: str, kind: str) -> None:
    source = f"""
import numpy as np
import pandas as pd

class Model:
    def predict(self, data: {annotation}):
        return [type(data).__name__]
"""
    assert answer(serve(write(source)), {"x": ROWS})["output-0"].tolist() == [kind]


def test_parameters_come_when_asked_for(write: Any, serve: Serve) -> None:
    source = "class Model:\n    def predict(self, x, parameters=None):\n        return x * parameters['times']\n"
    model = serve(write(source))
    assert model.parameters is None
    assert np.array_equal(answer(model, {"x": ROWS}, times=3)["output-0"], ROWS * 3)


def test_a_signature_an_example_and_class_names(write: Any, serve: Serve, tmp_path: pathlib.Path) -> None:
    source = """
class Model:
    signature = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }
    concurrent = 3

    def predict(self, x):
        return (x.sum(axis=1) > 4).astype("int64")
"""
    path = write(source)
    model = serve(path)
    assert model.signature.inputs == (messages.TensorSpec("x", "FP32", (-1, 2)),)
    assert model.signature.batched
    assert model.concurrent == 3
    assert not model.joins, "only its author knows whether its rows may meet others"
    assert model.processes == 0
    path.write_text(source.replace("concurrent = 3", "joins = True"))
    assert serve(path).joins
    path.write_text(source.replace("concurrent = 3", "processes = 3"))
    assert serve(path).processes == 3
    path.write_text(source)
    (tmp_path / "model.schema.yaml").write_text(
        "inputs: [{name: x, datatype: FP64, shape: [-1, 2]}]\n"
        "outputs: [{name: y}]\nclasses: [low, high]\nexample: [1, 2]"
    )
    model = serve(path)
    assert model.example()["x"].tolist() == [[1.0, 2.0]]
    assert model.infer({"x": ROWS}, outputs=("label",), parameters={})["label"].tolist() == ["low", "high"]


def test_a_kserve_model_runs_with_its_hooks(write: Any, serve: Serve) -> None:
    source = """
class Model:
    def __init__(self, name):
        self.name = name
        self.ready = False

    def load(self):
        self.ready = True
        return self.ready

    async def preprocess(self, payload, headers=None):
        return {"instances": [[2 * value for value in row] for row in payload["instances"]]}

    def predict(self, payload, headers=None):
        assert self.ready and self.name == "served"
        return {"predictions": [sum(row) for row in payload["instances"]]}

    def postprocess(self, result, headers=None):
        return {"predictions": [value + 1 for value in result["predictions"]]}
"""
    assert answer(serve(write(source)), {"x": ROWS})["output-0"].tolist() == [7.0, 15.0]


def test_a_kserve_payload_of_columns_has_a_mapping_per_row(write: Any, serve: Serve) -> None:
    source = """
class Model:
    def predict(self, payload, headers=None):
        return {"predictions": [f"{row['name']}:{row['age']}" for row in payload["instances"]]}
"""
    inputs = {"name": np.array([b"Ada"], dtype=object), "age": np.array([36])}
    assert answer(serve(write(source)), inputs)["output-0"].tolist() == ["Ada:36"]


def test_an_mlflow_python_model_runs(write: Any, serve: Serve, tmp_path: pathlib.Path) -> None:
    (tmp_path / "weights.csv").write_text("10")
    source = """
import pathlib

class Model:
    def load_context(self, context):
        self.factor = float(pathlib.Path(context.artifacts["weights"]).read_text())

    def predict(self, context, model_input, params=None):
        scale = (params or {}).get("scale", 1)
        return model_input["a"] * self.factor * scale
"""
    model = serve(write(source))
    inputs = {"a": np.array([1.0, 2.0]), "b": np.array([0.0, 0.0])}
    assert answer(model, inputs, scale=2)["output-0"].tolist() == [20.0, 40.0]


def test_a_coroutine_is_given_to_be_awaited(write: Any, serve: Serve) -> None:
    source = """
import asyncio

class Model:
    async def load(self):
        await asyncio.sleep(0)
        self.factor = 2

    async def predict(self, x):
        await asyncio.sleep(0)
        if x.sum() > 100:
            raise ValueError("too much")
        return x * self.factor
"""
    model = serve(write(source))
    assert model.is_async
    assert model.concurrent > 1
    coroutine = model.infer({"x": ROWS}, outputs=(), parameters={})
    assert inspect.iscoroutine(coroutine)
    assert np.array_equal(asyncio.run(coroutine)["output-0"], ROWS * 2)
    with pytest.raises(errors.ModelError, match=r"predict failed: ValueError: too much \(served.py:12 in predict\)"):
        asyncio.run(model.infer({"x": ROWS * 100}, outputs=(), parameters={}))


def test_modules_beside_the_file_are_imported_both_ways(write: Any, serve: Serve) -> None:
    write("FACTOR = 3\n", "factors_of_this_test.py")
    source = """
import factors_of_this_test
from .factors_of_this_test import FACTOR

class Model:
    def predict(self, x):
        from factors_of_this_test import FACTOR as late
        return x * FACTOR + (factors_of_this_test.FACTOR - late)
"""
    model = serve(write(source))
    assert np.array_equal(answer(model, {"x": ROWS})["output-0"], ROWS * 3)
    model.close()
    del sys.modules["factors_of_this_test"]


def test_a_package_is_served(tmp_path: pathlib.Path, serve: Serve) -> None:
    body = "    def predict(self, x):\n        return super().predict(x)\n"
    source = f"from .inner import Model\n\n\nclass Served(Model):\n{body}"
    (tmp_path / "__init__.py").write_text(source)
    (tmp_path / "inner.py").write_text("class Model:\n    def predict(self, x):\n        return -x\n")
    model = serve(tmp_path, {"class": "Served"})
    assert np.array_equal(answer(model, {"x": ROWS})["output-0"], -ROWS)


def test_two_files_of_one_name_live_side_by_side(tmp_path: pathlib.Path, serve: Serve) -> None:
    loaded = []
    for factor in (2, 3):
        folder = tmp_path / str(factor)
        folder.mkdir()
        (folder / "served.py").write_text(f"class Model:\n    def predict(self, x):\n        return x * {factor}\n")
        loaded.append(serve(folder / "served.py"))
    assert [answer(model, {"x": np.ones(1)})["output-0"][0] for model in loaded] == [2, 3]


def test_the_class_is_the_only_one_or_model_or_the_named(write: Any, serve: Serve) -> None:
    one = "class {}:\n    def predict(self, x):\n        return {}\n"
    two = one.format("A", "x") + one.format("B", "-x")
    with pytest.raises(errors.ModelError, match="has 2 classes with predict: A, B") as caught:
        serve(write(two))
    assert "class=NAME" in caught.value.hint
    assert np.array_equal(answer(serve(write(two), {"class": "B"}), {"x": ROWS})["output-0"], -ROWS)
    with pytest.raises(errors.ModelError, match="has no class 'C' with predict; classes with predict: A, B"):
        serve(write(two), {"class": "C"})
    named = two + "class Model(A):\n    def helper(self):\n        return 1\n"
    assert np.array_equal(answer(serve(write(named)), {"x": ROWS})["output-0"], ROWS)


def test_predict_that_raises_names_the_line(write: Any, serve: Serve) -> None:
    source = """class Model:
    def predict(self, x):
        return self.inner(x)

    def inner(self, x):
        return {}["gone"]
"""
    with pytest.raises(errors.ModelError) as caught:
        answer(serve(write(source)), {"x": ROWS})
    assert caught.value.message == "predict failed: KeyError: 'gone' (served.py:6 in inner)."


def test_a_models_own_refusal_passes(write: Any, serve: Serve) -> None:
    source = (
        "from mlship import errors\n\nclass Model:\n    def predict(self, x):\n        raise errors.SpecError('no')\n"
    )
    with pytest.raises(errors.SpecError, match="no"):
        answer(serve(write(source)), {"x": ROWS})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import no_such_package_here\n", "No module named 'no_such_package_here' (served.py:1"),
        ("raise RuntimeError('boom')\n", "importing served.py failed: RuntimeError: boom (served.py:1"),
        ("import sys\nsys.exit(3)\n", "importing served.py failed: SystemExit: 3"),
    ],
)
def test_import_failures_name_the_line(write: Any, serve: Serve, body: str, said: str) -> None:
    path = write(body + "class Model:\n    def predict(self, x):\n        return x\n")
    with pytest.raises(errors.ModelError) as caught:
        serve(path)
    assert said in caught.value.message
    assert "served" not in sys.modules


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("def __init__(self, path): ...\n    def predict(self, x): ...", "needs the arguments path to be made"),
        (
            "def __init__(self): 1 / 0\n    def predict(self, x): ...",
            r"Model() failed: ZeroDivisionError: division by zero",
        ),
        ("def load(self): 1 / 0\n    def predict(self, x): ...", "load failed: ZeroDivisionError"),
        ("def predict(self): ...", "predict takes no data"),
        ("def predict(self, x, y): ...", "predict needs the arguments y, which nothing gives"),
        ("concurrent = 0\n    def predict(self, x): ...", "concurrent must be a positive integer, got 0"),
        ("processes = -1\n    def predict(self, x): ...", "processes must be a whole number of 0 to 256, got -1"),
        ("processes = True\n    def predict(self, x): ...", "processes must be a whole number of 0 to 256, got True"),
        ("signature = {'inputs': 3}\n    def predict(self, x): ...", "Model.signature: line 1: inputs must be a list"),
    ],
)
def test_classes_that_cannot_serve_are_refused_at_load(write: Any, serve: Serve, methods: str, said: str) -> None:
    with pytest.raises(errors.MlshipError) as caught:
        serve(write(f"class Model:\n    {methods}\n"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("None", "predict gave None"),
        ("[{'a': 1}]", "predict gave a list of mappings"),
        ("[[1], [2, 3]]", "no array of numbers"),
        ("[1, 'a', object()]", "neither numbers nor strings"),
        ("1j", "no array of numbers or strings"),
    ],
)
def test_results_that_are_no_arrays_are_the_models_fault(write: Any, serve: Serve, result: str, said: str) -> None:
    model = serve(write(f"class Model:\n    def predict(self, x):\n        return {result}\n"))
    with pytest.raises(errors.ModelError) as caught:
        answer(model, {"x": ROWS})
    assert said in caught.value.message


def test_results_of_many_forms_become_arrays(write: Any, serve: Serve) -> None:
    source = """
import pandas as pd

class Model:
    def predict(self, x):
        return {
            0: 7,
            1: ["a", "b"],
            2: pd.DataFrame({"p": [1, 2], "q": [3.5, 4.5]}),
            3: pd.Series([True, False]),
        }[int(x[0])]
"""
    model = serve(write(source))
    assert answer(model, {"x": np.array([0])})["output-0"].tolist() == [7]
    assert answer(model, {"x": np.array([1])})["output-0"].tolist() == ["a", "b"]
    assert list(answer(model, {"x": np.array([2])})) == ["p", "q"]
    assert answer(model, {"x": np.array([3])})["output-0"].dtype == bool


def test_an_output_that_does_not_come_is_told(write: Any, serve: Serve) -> None:
    model = serve(write("class Model:\n    def predict(self, x):\n        return x\n"))
    with pytest.raises(errors.SpecError, match="predict gave output-0, without 'scores'"):
        model.infer({"x": ROWS}, outputs=("scores",), parameters={})


def test_close_ends_the_object_and_forgets_the_module(write: Any, serve: Serve, tmp_path: pathlib.Path) -> None:
    source = """
import pathlib

class Model:
    def predict(self, x):
        return x

    def close(self):
        pathlib.Path(__file__).with_name("closed").touch()
"""
    model = serve(write(source))
    assert str(tmp_path) in sys.path
    model.close()
    assert (tmp_path / "closed").exists()
    assert str(tmp_path) not in sys.path
    assert "served" not in sys.modules
