"""The short way says what the long way says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlship import errors
from mlship.protocol import json_codec, json_small, messages

_NUMBERS = st.one_of(
    st.integers(-300, 300),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1.0, 2**53 + 1, 1e39, 70000]),
)
_ODD = st.sampled_from([None, True, "1", "", [], [1], {}, {"a": 1}])
_SCALARS = st.one_of(_NUMBERS, _NUMBERS, _NUMBERS, _ODD)
_DATA = st.one_of(
    st.lists(_NUMBERS, max_size=6),
    st.lists(_SCALARS, max_size=6),
    st.lists(st.lists(_SCALARS, min_size=2, max_size=2), max_size=3),
    st.lists(st.lists(_NUMBERS, max_size=3), max_size=3),
    st.lists(st.sampled_from(["a", "b", None, "", "\u00e4"]), max_size=6),
    st.lists(st.booleans(), max_size=6),
    _ODD,
)
_DATATYPES = st.one_of(st.sampled_from([*messages.NUMPY_OF, "FP64", "FP64", "BF16", "fp64"]), _ODD)
_SHAPES = st.one_of(
    st.lists(st.integers(0, 4), max_size=4),
    st.lists(st.one_of(st.integers(-1, 3), st.sampled_from([1.0, True, "2", None, 2**70])), max_size=3),
    _ODD,
)


@st.composite
def _tensors(draw: st.DrawFn) -> Any:
    data = draw(_DATA)
    fits = isinstance(data, list) and draw(st.booleans())
    tensor = {
        "name": draw(st.sampled_from(["a", "b", "", 7])),
        "shape": _shape(data) if fits else draw(_SHAPES),
        "datatype": draw(_DATATYPES),
        "data": data,
    }
    if draw(st.integers(0, 9)) == 0:
        tensor["parameters"] = draw(st.sampled_from([None, {}, {"content_type": "np"}, 7]))
    if draw(st.integers(0, 9)) == 0:
        del tensor[draw(st.sampled_from(["name", "shape", "datatype", "data"]))]
    return tensor


def _shape(data: list[Any]) -> list[int]:
    return [len(data), len(data[0])] if data and isinstance(data[0], list) else [len(data)]


_BODIES = st.one_of(
    st.fixed_dictionaries(
        {"inputs": st.lists(_tensors(), max_size=3)},
        optional={"id": st.sampled_from(["", "7", 7, None]), "outputs": st.just([{"name": "y"}]), "x": st.just(1)},
    ),
    _ODD,
    st.fixed_dictionaries({"inputs": _ODD}),
)


def said(body: bytes) -> Any:
    try:
        found = json_codec.decode_infer(body, model_name="m", model_version="3")
    except errors.SpecError as error:
        return str(error)
    tensors = [
        (tensor.name, tensor.datatype, tensor.shape, tensor.data.dtype, repr(tensor.data.tolist()), tensor.parameters)
        for tensor in found.inputs
    ]
    asked = (found.outputs, found.parameters, found.binary_outputs)
    return found.model_name, found.model_version, found.id, tensors, asked


@hypothesis.given(_BODIES)
@hypothesis.settings(max_examples=600, deadline=None)
def test_the_short_way_says_what_the_long_way_says(value: Any) -> None:
    body = json.dumps(value).encode()
    short = said(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_small, "decode", lambda *_, **__: None)
        assert short == said(body)


@pytest.mark.parametrize("data", [[5.1, 3.5, 1.4, 0.2], [[5.1, 3.5, 1.4, 0.2]], [5, 3, 1, None]])
@pytest.mark.parametrize("more", [{}, {"id": "7"}])
def test_the_usual_request_goes_the_short_way(data: Any, more: dict[str, str]) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": data}
    found = json_small.decode({"inputs": [tensor], **more}, model_name="m", model_version="")
    assert found is not None
    assert (found.inputs[0].shape, found.id) == ((1, 4), more.get("id", ""))


def test_several_tensors_go_the_short_way_unless_two_have_one_name() -> None:
    tensors = [{"name": name, "shape": [2], "datatype": "INT64", "data": [1, 2]} for name in ("a", "b")]
    found = json_small.decode({"inputs": tensors}, model_name="m", model_version="")
    assert found is not None
    assert [tensor.name for tensor in found.inputs] == ["a", "b"]
    assert json_small.decode({"inputs": [tensors[0]] * 2}, model_name="m", model_version="") is None
