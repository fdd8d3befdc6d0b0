from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship.protocol import messages


@pytest.mark.parametrize(("name", "dtype"), messages.NUMPY_OF.items())
def test_datatypes_and_dtypes_are_each_others(name: str, dtype: np.dtype[Any]) -> None:
    assert messages.datatype_of(dtype) == name
    assert messages.datatype_of(dtype.newbyteorder(">")) == name


@pytest.mark.parametrize("dtype", ["U3", "S3", "O", "datetime64[us]"])
def test_text_objects_and_dates_are_bytes(dtype: str) -> None:
    assert messages.datatype_of(np.dtype(dtype)) == "BYTES"


@pytest.mark.parametrize("dtype", ["c16", "timedelta64[s]", "V8"])
def test_other_dtypes_have_no_datatype(dtype: str) -> None:
    with pytest.raises(KeyError):
        messages.datatype_of(np.dtype(dtype))
