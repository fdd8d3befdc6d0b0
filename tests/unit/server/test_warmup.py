"""Ready means that it has answered: what was given must be answered, what was made up may be refused."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server import example, warmup

SIGNATURE = messages.Signature(inputs=(messages.TensorSpec("x", "FP32", (-1, 2)),), batched=True)
OWN = example.Example({"x": np.ones((1, 2), np.float32)}, genuine=True)
MADE = example.Example({"x": np.zeros((1, 2), np.float32)}, genuine=False)


class Model:
    """Notes the rows of each call; ``fails`` says what becomes of a call."""

    platform = "test"

    def __init__(self, fails: Callable[[Any], BaseException | None] = lambda x: None, **extras: Any) -> None:
        self.signature = SIGNATURE
        self.fails = fails
        self.rows: list[int] = []
        self.seen: list[Any] = []
        for name, value in extras.items():
            setattr(self, name, value)

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        self.rows.append(len(inputs["x"]))
        self.seen.append(inputs["x"].tolist())
        if (error := self.fails(inputs["x"])) is not None:
            raise error
        return {"y": inputs["x"]}

    def close(self) -> None:
        pass


def body(*rows: list[float], name: str = "x") -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": [len(rows), 2], "datatype": "FP32", "data": list(rows)}]}


def run(
    model: Model, path: pathlib.Path, *, row: example.Example | None = MADE, clock: Any = lambda: 0.0, **wish: Any
) -> Model:
    warmup.run(
        model, label='model "m"', path=path, wish=warmup.Wish(**wish), row=row, run_coroutine=lambda made: made.close(),
        clock=clock,
    )  # fmt: skip
    return model


def fails_with(error: BaseException) -> Callable[[Any], BaseException]:
    return lambda x: error


def test_the_example_is_answered_alone_and_in_batches(tmp_path: pathlib.Path) -> None:
    made = run(Model(), tmp_path, row=OWN)
    assert made.rows == [1, 8, 32]
    assert made.seen[1] == [[1.0, 1.0]] * 8


def test_what_cannot_be_joined_is_asked_once(tmp_path: pathlib.Path) -> None:
    assert run(Model(joins=False), tmp_path).rows == [1]
    assert run(Model(), tmp_path, most=1).rows == [1]
    assert run(Model(), tmp_path, row=None).rows == []


def test_given_requests_are_answered_in_their_order_and_nothing_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "warmup.json").write_text(json.dumps([body([1, 2]), body([3, 4], [5, 6]), body([7, 8]), body([9, 9])]))
    assert run(Model(), tmp_path, row=OWN).seen == [[[1, 2]], [[3, 4], [5, 6]], [[7, 8]]]
    assert len(run(Model(), tmp_path, most=4).seen) == 4


def test_one_given_row_is_tried_in_batches_too(tmp_path: pathlib.Path) -> None:
    assert run(Model(), tmp_path, given=json.dumps(body([1, 2]))).seen[0] == [[1, 2]]
    (tmp_path / "mine.json").write_text(json.dumps(body([3, 4])))
    assert run(Model(), tmp_path, given="mine.json").rows == [1, 8, 32]
    assert run(Model(), tmp_path / "model.bin", given=str(tmp_path / "mine.json")).seen[0] == [[3, 4]]


@pytest.mark.parametrize("error", [errors.SpecError("no such city"), ValueError("broken"), SystemExit(1)])
def test_a_given_request_that_is_not_answered_is_a_model_that_is_not_loaded(
    tmp_path: pathlib.Path, error: BaseException
) -> None:
    (tmp_path / "warmup.json").write_text(json.dumps([body([1, 2])]))
    with pytest.raises(errors.ModelError, match=r"failed its warm-up with request 1 of .*warmup\.json: ") as caught:
        run(Model(fails_with(error)), tmp_path)
    assert caught.value.__cause__ is error
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be used"),
        ('{"inputs": 3}', "inputs"),
        (json.dumps(body([1, 2], name="z")), "z"),
        ("nowhere.json", "there is no file"),
    ],
)
def test_given_requests_that_make_no_sense_are_said(tmp_path: pathlib.Path, text: str, said: str) -> None:
    with pytest.raises(errors.ModelError, match=said):
        run(Model(), tmp_path, given=text)


def test_a_file_that_is_too_large_or_unreadable_is_said(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "MOST_BYTES", 10)
    (tmp_path / "warmup.json").write_text(json.dumps(body([1, 2])))
    with pytest.raises(errors.ModelError, match="is larger than"):
        run(Model(), tmp_path)
    (tmp_path / "warmup.json").unlink()
    (tmp_path / "warmup.json").mkdir()
    monkeypatch.setattr(warmup, "MOST_BYTES", 1 << 20)
    with pytest.raises(errors.ModelError, match="cannot be read"):
        run(Model(), tmp_path)


def test_logged_requests_are_chosen_by_their_shapes_and_bad_ones_left_out(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [body([1, 2]), body([3, 4]), body([5, 6], [7, 8]), body([1, 1], name="z"), body(*[[0, 0]] * 5)]
    log = tmp_path / "requests.jsonl"
    log.write_text("\n".join([*(json.dumps(line) for line in lines), "not json"]))
    assert run(Model(), tmp_path, requests=log).rows == [1, 2, 5]
    assert run(Model(), tmp_path, requests=log, most=9).rows == [1, 2, 5]
    assert [record.message for record in caplog.records].count("warm-up request left out") == 3


def test_a_model_that_fails_a_logged_request_is_loaded_with_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "requests.jsonl"
    log.write_text(json.dumps(body([1, 2])))
    run(Model(fails_with(ValueError("broken"))), tmp_path, requests=log)
    assert "warm-up row refused" in caplog.text


def test_a_log_that_is_not_there_or_empty_leaves_the_example(tmp_path: pathlib.Path) -> None:
    assert run(Model(), tmp_path, requests=tmp_path / "nowhere").rows[0] == 1
    (tmp_path / "empty").write_text("")
    assert run(Model(), tmp_path, requests=tmp_path / "empty").seen[0] == [[0, 0]]


@pytest.mark.parametrize(
    "recorded",
    [
        {"inputs": [[1, 2]]},
        [[1, 2]],
        {"inputs": {"x": [[1, 2]]}},
    ],
)
def test_mlflows_example_is_used_where_the_model_has_none_of_its_own(tmp_path: pathlib.Path, recorded: Any) -> None:
    (tmp_path / "input_example.json").write_text(json.dumps(recorded))
    assert run(Model(), tmp_path).seen[0] == [[1, 2]]
    assert run(Model(), tmp_path, row=OWN).seen[0] == [[1, 1]]


@pytest.mark.parametrize("text", ["{", '{"columns": ["a"], "data": [[1]]}', '{"inputs": "text"}'])
def test_a_recorded_example_that_does_not_fit_is_left_out(
    tmp_path: pathlib.Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "input_example.json").write_text(text)
    assert run(Model(), tmp_path).seen[0] == [[0, 0]]
    assert "recorded example left out" in caplog.text


def test_our_own_repetitions_may_fail(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    def one_row_only(x: Any) -> BaseException | None:
        return ValueError("one row only") if len(x) > 1 else None

    run(Model(one_row_only), tmp_path, row=OWN)
    assert "warm-up row refused" in caplog.text


def test_no_more_is_begun_when_the_time_is_over(tmp_path: pathlib.Path) -> None:
    now = iter(range(100))
    (tmp_path / "warmup.json").write_text(json.dumps([body([1, 2]), body([3, 4]), body([5, 6])]))
    assert len(run(Model(), tmp_path, seconds=2.0, clock=lambda: next(now)).rows) == 2
    slow = iter(range(100))
    assert run(Model(), tmp_path, given=json.dumps(body([1, 2])), clock=lambda: next(slow)).rows == [1]


def test_what_comes_back_answers_only_what_was_given(tmp_path: pathlib.Path) -> None:
    assert run(Model(), tmp_path, row=OWN, again=True).rows == []
    given = json.dumps(body([1.0, 2.0], [3.0, 4.0]))
    assert run(Model(), tmp_path, row=OWN, given=given, again=True).rows == [2]
