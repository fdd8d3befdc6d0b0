from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import csv_table


@pytest.mark.parametrize(
    ("cells", "datatype", "expected"),
    [
        (["1", "-2", "+3"], "INT64", [1, -2, 3]),
        (["1", "2.5", ".5e1"], "FP64", [1.0, 2.5, 5.0]),
        (["inf", "-Infinity"], "FP64", [np.inf, -np.inf]),
        (["99999999999999999999", "1"], "FP64", [1e20, 1.0]),
        (["True", "false"], "BOOL", [True, False]),
        (["a", "1"], "BYTES", ["a", "1"]),
        (["1_000", "2"], "BYTES", ["1_000", "2"]),
        (["a", "NA"], "BYTES", ["a", None]),
        (["True", "NA"], "BYTES", ["True", None]),
        (["a,b", 'c"d'], "BYTES", ["a,b", 'c"d']),
    ],
)
def test_columns_are_typed_by_all_their_cells(cells: list[str], datatype: str, expected: list[Any]) -> None:
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    (column,) = csv_table.decode("\n".join(["x", *quoted]).encode())
    assert (column.name, column.datatype, column.data.tolist()) == ("x", datatype, expected)


def test_missing_numbers_are_nan() -> None:
    a, b = csv_table.decode(b"\xef\xbb\xbfa,b\r\n1,\r\n,2.5\r\n")
    assert (a.name, a.datatype, b.name) == ("a", "FP64", "b")
    assert np.isnan(a.data).tolist() == [False, True]
    assert np.isnan(b.data).tolist() == [True, False]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "expected a CSV header and at least one row, got nothing"),
        (b"a,b\n", "got only the header"),
        (b",a\n0,1\n", "column 1 of the CSV header has no name. Write the CSV without the index column"),
        (b"a,a\n1,2\n", "'a' is there twice"),
        (b"a,b\n1,2\n3\n", "row[1]: expected an array of 2 values"),
        (b'a\n"x\n', "not valid CSV"),
        (b'a\n"x"y\n', "not valid CSV"),
        (b"a\n\xff\n", "expected UTF-8 text, got other bytes at position 2"),
        (b"a\n" + b"x" * 200_000 + b"\n", "not valid CSV: field larger"),
    ],
)
def test_a_broken_table_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        csv_table.decode(body)
    assert says in str(caught.value)


def test_types_agree_with_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    import io

    body = b"i,f,b,s,m,e\n1,1.5,True,x,NA,\n2,2,False,,y,3\n"
    frame = pandas.read_csv(io.BytesIO(body))
    kinds = {"INT64": "i", "FP64": "f", "BOOL": "b", "BYTES": "O"}
    for tensor in csv_table.decode(body):
        column = frame[tensor.name]
        dtype = column.dtype
        assert kinds[tensor.datatype] == (dtype.kind if getattr(dtype, "kind", "O") in "ifb" else "O"), tensor.name
        assert column.isna().tolist() == [value is None or value != value for value in tensor.data.tolist()]
