from __future__ import annotations

from mlship.protocol import messages
from mlship.server import describe


def test_a_tensor_of_any_datatype_is_described_by_one_the_protocol_has() -> None:
    assert describe._tensor(messages.TensorSpec("x", "", (-1,))) == {"name": "x", "datatype": "BYTES", "shape": [-1]}


def test_a_content_type_is_a_parameter_as_in_mlserver() -> None:
    found = describe._tensor(messages.TensorSpec("x", "BYTES", (-1,), content_type="str"))
    assert found["parameters"] == {"content_type": "str"}


def test_extensions_have_no_claim_twice() -> None:
    assert len(set(describe.EXTENSIONS)) == len(describe.EXTENSIONS)
    assert describe.server()["extensions"] == list(describe.EXTENSIONS)
