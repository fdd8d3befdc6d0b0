"""Every pattern of the catalogue explains a line that a real library, kernel or server wrote."""

from __future__ import annotations

import re

import pytest

from mlship.plan import catalogue

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("truncated", "model not loaded: iris.pkl is a truncated pickle: it ends after 300 bytes without the STOP opcode."),
    ("corrupt pickle", "iris.pkl is corrupt: its gzip data cannot be inflated (incorrect header check)."),
    (
        "class of main",
        "m.pkl needs Doubler, which was defined in a script or notebook (module __main__) and is not in the file.",
    ),
    ("missing package", "m.pkl does not load: it needs the module 'churn.steps', which cannot be imported here."),
    (
        "missing package",
        "m.pkl is a pickle of churn.Model and needs X, but the module 'churn' cannot be imported here.",
    ),
    ("python syntax", "model.py is not valid Python: invalid syntax (line 3). Correct the line."),
    ("unsafe pickle", "m.pkl is refused: loading it would call or use os.system, which no model needs."),
    ("not a fitted model", "m.pkl is a pickle of a dict, not of a fitted model."),
    ("not served yet", "m.pt is a PyTorch checkpoint: recognised, not served yet."),
    ("not a model", "README.md is no model file that is known here."),
    ("several models", "/srv/models holds 2 models: a.pkl, b.pkl."),
    ("bad arguments", "unrecognized arguments: --model_name=iris. --help lists the flags."),
    ("numpy 2 pickle", "ModuleNotFoundError: No module named 'numpy._core'"),
    (
        "numpy abi",
        "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88",
    ),
    ("moved in sklearn", "ModuleNotFoundError: No module named 'sklearn.linear_model.logistic'"),
    ("class of main", "AttributeError: Can't get attribute 'Doubler' on <module '__main__' (built-in)>"),
    (
        "class not in library",
        "AttributeError: Can't get attribute '__pyx_unpickle_CyHalfBinomialLoss' on <module 'sklearn._loss._loss'",
    ),
    (
        "class not importable",
        "AttributeError: Can't get attribute 'Cleaner' on <module 'churn.steps' from '/srv/churn/steps.py'>",
    ),
    ("missing package", "model \"iris\" version 1 needs a module that is not installed: No module named 'lightgbm'."),
    (
        "name gone from package",
        "ImportError: cannot import name 'Dataset' from 'lightgbm' (/usr/lib/python3/lightgbm/__init__.py)",
    ),
    ("gpu library", "OSError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    ("shared library", "OSError: libgomp.so.1: cannot open shared object file: No such file or directory"),
    ("glibc", "ImportError: /lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_2.35' not found (required by catboost.so)"),
    (
        "sklearn version",
        "ValueError: node array from the pickle has an incompatible dtype: expected: {'names': ['left_child']}",
    ),
    ("sklearn version", "AttributeError: 'DecisionTreeClassifier' object has no attribute 'monotonic_cst'"),
    ("pickle protocol", "ValueError: unsupported pickle protocol: 5"),
    (
        "onnx opset",
        "[ONNXRuntimeError] : 1 : FAIL : Load failed: Unsupported model IR version: 12, max supported IR version: 10",
    ),
    ("python syntax", "SyntaxError: invalid syntax (model.py, line 3)"),
    ("truncated", 'model "iris" version 1 could not be loaded: UnpicklingError: pickle data was truncated.'),
    ("truncated", "EOFError: Ran out of input"),
    ("corrupt pickle", "_pickle.UnpicklingError: invalid load key, '<'."),
    ("git lfs pointer", "not a model: it begins with version https://git-lfs.github.com/spec/v1"),
    ("checksum", "https://example.com/m.pkl: the checksum does not match: expected sha256:00, got sha256:11."),
    ("download 404", "https://example.com/m.pkl: there is nothing at this address (404)."),
    ("download refused", "https://example.com/m.pkl: the server refused access (401)."),
    ("certificate", "https://example.com/m.pkl: the server's certificate is not trusted (self-signed certificate)."),
    ("name resolution", "httpx.ConnectError: [Errno -2] Name or service not known"),
    ("download timeout", "https://example.com/m.pkl could not be fetched in 5 attempts: the server did not answer."),
    ("download timeout", "https://example.com/m.pkl was not complete after 3600 s, the limit total_seconds."),
    ("disk full", "OSError: [Errno 28] No space left on device: '/home/me/.local/state/mlship/cache'"),
    ("disk full", "The disk of the cache /home/me/cache is full (not enough space): the artifact needs 9 bytes"),
    ("shared memory", "RuntimeError: unable to open shared memory object </torch_32_1> in read-write mode"),
    ("out of memory", "ended by SIGKILL (killed, often because memory ran out)"),
    ("out of memory", "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 74.5 GiB for an array with shape"),
    ("illegal instruction", "ended by SIGILL (an instruction this CPU does not have)"),
    ("segfault", "ended by SIGSEGV (a crash in native code)"),
    ("too many files", "OSError: [Errno 24] Too many open files: '/proc/self/maps'"),
    ("threads", "RuntimeError: can't start new thread"),
    (
        "port taken",
        "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8080): address already in use",
    ),
    ("permission", "PermissionError: [Errno 13] Permission denied: '/srv/models/iris.pkl'"),
    ("program missing", "FileNotFoundError: [Errno 2] No such file or directory: 'tritonserver'"),
    ("missing file", "FileNotFoundError: [Errno 2] No such file or directory: '/srv/vocab.txt'"),
    ("bad arguments", "main.py: error: unrecognized arguments: --model_name=iris"),
    ("no adapter", 'no adapter for the model format "cobol" is installed; there are catboost, lightgbm, onnx.'),
    ("features", "ValueError: X has 3 features, but LogisticRegression is expecting 4 features as input."),
    ("warm-up", 'model "iris" version 1 failed its warm-up inference: TypeError: unsupported operand.'),
    ("slow start", "not ready 120 s after its start; it last said: answers 503: loading"),
    ("not listening", "does not listen yet"),
    ("no runtime", "No runtime serves the model format cobol."),
)


@pytest.mark.parametrize(
    ("name", "line"), EXAMPLES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(EXAMPLES)]
)
def test_a_real_line_is_explained(name: str, line: str) -> None:
    found = catalogue.explain(line)
    assert found is not None
    assert found.name == name
    assert not re.search(r"[{}]", found.cause + found.fix)
    assert found.fix.endswith(".")
    assert found.cause.endswith(".")


def test_every_pattern_has_an_example_and_a_name_of_its_own() -> None:
    names = [known.name for known in catalogue.TABLE]
    assert len(set(names)) == len(names)
    assert set(names) == {name for name, _ in EXAMPLES}
    assert len(names) >= 30


def test_what_is_not_known_is_not_explained() -> None:
    assert catalogue.explain("the cat sat on the keyboard") is None
    assert catalogue.explain("") is None


def test_the_package_to_install_is_the_one_that_has_the_module() -> None:
    found = catalogue.explain("ModuleNotFoundError: No module named 'cv2'")
    assert found is not None
    assert "pip install opencv-python" in found.fix
    plain = catalogue.explain("ModuleNotFoundError: No module named 'my_pkg.part'")
    assert plain is not None
    assert "pip install my-pkg " in plain.fix
