from __future__ import annotations

import asyncio
import pathlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mlship import errors
from mlship.protocol import messages
from mlship.server import infer, loading, machinery, repository


class Model:
    platform = "test"
    signature = messages.Signature(
        inputs=(messages.TensorSpec("x", "FP64", (-1,)),),
        outputs=(messages.TensorSpec("y", "FP64", (-1,), content_type="np"),),
    )

    def __init__(self) -> None:
        self.answer: Callable[[Any], Any] = lambda inputs: {"y": inputs["x"]}

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        return self.answer(inputs)

    def close(self) -> None:
        pass


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[infer.Inference, Model]]:
    engine, model = machinery.Machinery.start(1), Model()
    models = repository.Repository(engine, queue_size=1, drain_seconds=1.0, open_model=lambda source: model)
    models.register(loading.Source(name="m", version="1", path=pathlib.Path("/nowhere")))
    await models.load_all()
    yield infer.Inference(models, request_timeout=30.0), model
    await models.close()
    assert engine.close(10)


def request(values: Any = (1.0, 2.0), **more: Any) -> messages.InferRequest:
    tensor = messages.Tensor("x", "FP64", np.asarray(values))
    return messages.InferRequest(model_name="m", id="7", inputs=(tensor,), **more)


async def test_an_answer_carries_names_and_is_counted(served: tuple[infer.Inference, Model]) -> None:
    inference, _ = served
    response = await inference.infer(request(), deadline=inference.deadline())
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "7")
    (output,) = response.outputs
    assert (output.name, output.datatype, output.data.tolist()) == ("y", "FP64", [1.0, 2.0])
    assert output.parameters == {"content_type": "np"}
    ((_, kept),) = inference.models.statistics()
    assert (kept.inference_count, kept.execution_count, kept.success.count, kept.fail.count) == (2, 1, 1, 0)
    assert kept.last_inference > 1_600_000_000_000


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda inputs: 1 / 0, 'model "m" failed: ZeroDivisionError: division by zero'),
        (lambda inputs: [1], "gave list where outputs by name were expected"),
        (lambda inputs: {"y": np.asarray([1j])}, 'output "y" is of type complex128, which no tensor can carry'),
        (lambda inputs: {"y": np.asarray([1], dtype="timedelta64[s]")}, "which no tensor can carry"),
    ],
)
async def test_a_models_fault_is_a_model_error(
    served: tuple[infer.Inference, Model], answer: Callable[[Any], Any], said: str
) -> None:
    inference, model = served
    model.answer = answer
    with pytest.raises(errors.ModelError) as caught:
        await inference.infer(request(), deadline=inference.deadline())
    assert said in caught.value.message
    ((_, kept),) = inference.models.statistics()
    assert (kept.success.count, kept.fail.count) == (0, 1)


async def test_the_models_refusal_is_the_callers_error(served: tuple[infer.Inference, Model]) -> None:
    inference, model = served

    def refuse(inputs: Any) -> Any:
        raise errors.SpecError("negative age")

    model.answer = refuse
    with pytest.raises(errors.SpecError, match="negative age"):
        await inference.infer(request(), deadline=inference.deadline())


async def test_a_request_that_does_not_fit_never_reaches_the_model(served: tuple[infer.Inference, Model]) -> None:
    inference, model = served
    model.answer = lambda inputs: pytest.fail("it ran")
    with pytest.raises(errors.SpecError):
        await inference.infer(request([["a"]]), deadline=inference.deadline())


@pytest.mark.parametrize("timeout", [True, -1, 1.5, "x"])
async def test_a_timeout_parameter_is_a_whole_number(served: tuple[infer.Inference, Model], timeout: Any) -> None:
    inference, _ = served
    with pytest.raises(errors.SpecError, match='"timeout" expected'):
        await inference.infer(request(parameters={"timeout": timeout}), deadline=inference.deadline())


async def test_the_earliest_deadline_counts(served: tuple[infer.Inference, Model]) -> None:
    inference, _ = served
    assert inference.deadline(5.0) < inference.deadline() <= inference.deadline(1000.0)
    await inference.infer(request(parameters={"timeout": 0}), deadline=inference.deadline())
    with pytest.raises(errors.Overloaded) as caught:
        await inference.infer(request(), deadline=inference.deadline(0.0))
    assert caught.value.reason is errors.Reason.DEADLINE


async def test_only_known_names_are_labels(served: tuple[infer.Inference, Model]) -> None:
    inference, _ = served
    assert (inference.known("m"), inference.known("made up")) == ("m", "")


async def test_plain_python_values_become_tensors(served: tuple[infer.Inference, Model]) -> None:
    inference, model = served
    model.answer = lambda inputs: {"y": ["a", "b"], "n": 3}
    response = await inference.infer(request(), deadline=inference.deadline())
    assert [(output.name, output.datatype, output.shape) for output in response.outputs] == [
        ("y", "BYTES", (2,)),
        ("n", "INT64", ()),
    ]


async def test_requests_that_wait_are_joined_and_each_gets_its_own_rows() -> None:
    engine, model, held = machinery.Machinery.start(2), Model(), threading.Event()
    sizes: list[int] = []

    def answer(inputs: Any) -> Any:
        sizes.append(len(inputs["x"]))
        if -1 in inputs["x"]:
            assert held.wait(10)
        return {"y": inputs["x"] * 2}

    models = repository.Repository(
        engine, queue_size=99, drain_seconds=1.0, max_batch_size=8, open_model=lambda source: model
    )
    models.register(loading.Source(name="m", version="1", path=pathlib.Path("/nowhere")))
    await models.load_all()
    model.answer = answer
    inference = infer.Inference(models, request_timeout=30.0)
    asked = [(-1.0,), *((float(number), float(number) + 0.5) for number in range(30))]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(inference.infer(request(asked[0]), deadline=inference.deadline()))]
        while not sizes:
            await asyncio.sleep(0)
        tasks += [group.create_task(inference.infer(request(row), deadline=inference.deadline())) for row in asked[1:]]
        while models.queues()[0][1].waiting < 30:
            await asyncio.sleep(0)
        held.set()
    assert [tuple(task.result().outputs[0].data) for task in tasks] == [tuple(2 * v for v in row) for row in asked]
    assert sizes == [1, *[8] * 7, 4]
    ((_, kept),) = models.statistics()
    assert (kept.inference_count, kept.execution_count, kept.success.count) == (61, 9, 31)
    await models.close()
    assert engine.close(10)
