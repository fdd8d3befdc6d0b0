"""Says what one file is by looking at its bytes. Nothing is executed, and no framework is imported.

``find`` asks this of the file it was given, or of every file of a folder. A table of recognisers is gone through
in order, the certain ones (magic numbers) before those that read on; the name of the file counts only where bytes
cannot decide (Python source). Broken files of a known kind raise with what is wrong with them.
"""

from __future__ import annotations

import ast
import mmap
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Collection

import orjson

from mlship import errors
from mlship.server.artifact import inflate, kinds, learnt, marks, pickled, pickles, protowire

HEAD = 1 << 16
TAIL = 4096
_MAX_SOURCE = 4 << 20
_MAX_SKOPS_SCHEMA = 64 << 20
_LEGACY_XGBOOST = re.compile(
    rb"(?:binary|reg|multi|rank|survival|count):[a-z]+[^\n]{0,64}(?:gbtree|gblinear|dart)", re.DOTALL
)
_PICKLE_0 = re.compile(rb"\A(?:c[A-Za-z_][\w.]*\r?\n[A-Za-z_][\w.]*\r?\n|\([dilc](?:p0|S'|[\w.]+\n))")

Verdict = kinds.Found | kinds.Refused | None
_FOUND: learnt.Learnt[kinds.Found] = learnt.Learnt()


class Look:
    """A file and its first and last bytes."""

    def __init__(self, path: pathlib.Path, *, trusted: Collection[str] = ()) -> None:
        self.path = path
        self.trusted = trusted
        try:
            with path.open("rb") as stream:
                self.size = os.fstat(stream.fileno()).st_size
                self.head = stream.read(HEAD)
                stream.seek(max(0, self.size - TAIL))
                self.tail = stream.read(TAIL)
        except OSError as error:
            raise errors.SpecError(f"{path} cannot be read: {error.strerror or error}.") from error


def _bad(look: Look, what: str, hint: str) -> errors.SpecError:
    return errors.SpecError(f"{look.path.name} is {what}.", hint=hint)


def _no_model(look: Look) -> Verdict:
    """What commonly lies where a model should."""
    if look.size == 0:
        raise _bad(look, "empty (0 bytes)", "Save or copy the model again.")
    if look.head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise _bad(look, "a Git LFS pointer, not the model itself", "Run git lfs pull in the repository it comes from.")
    start = look.head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise _bad(
            look,
            "an HTML page, not a model",
            "The download link led to a web page (a login or a preview); use the link to the raw file.",
        )
    if b"<error>" in start and b"<code>" in start:
        raise _bad(look, "an error message of an object store, not a model", "Check the address and the credentials.")
    return None


def _is_pickle(head: bytes) -> bool:
    return (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or _PICKLE_0.match(head) is not None


def _pickle(look: Look) -> Verdict:
    compressed = inflate.compression(look.head)
    if compressed and _inflated_start(look.path) != b"\x80":
        what = f"compressed with {compressed} and no joblib file inside"
        raise _bad(look, what, "If it is an archive, unpack it and give the model file or folder inside.")
    if not compressed and not _is_pickle(look.head):
        return None
    return pickled.classify(look.path, pickles.scan(look.path), trusted=look.trusted)


def _inflated_start(path: pathlib.Path) -> bytes:
    with inflate.Reader(path) as reader:
        try:
            return reader.read(1)
        except (inflate.Truncated, inflate.Corrupt):
            return b"\x80"  # broken: the scan says how


def _zip(look: Look) -> Verdict:
    if not look.head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(look.path) as archive:
            names = archive.namelist()
            if "schema.json" in names:
                return _skops(look, archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise _bad(look, f"a broken zip file ({str(error)[:200]})", "Copy the file again, or save it again.") from error
    tails = {name.split("/", 1)[-1] for name in names}
    if "data.pkl" in tails or "MAR-INF/MANIFEST.json" in names:
        return kinds.Refused("a PyTorch model", kinds.UNSERVED["pytorch"])
    if "model.weights.h5" in names:
        return kinds.Refused("a Keras model", kinds.UNSERVED["keras"])
    if names and all(name.endswith(".npy") for name in names):
        raise _bad(
            look, "an archive of NumPy arrays, not a model", "Save the fitted estimator: joblib.dump(model, path)."
        )
    raise _bad(look, "a zip archive, not a model by itself", "Unpack it and give the model file or folder inside.")


def _skops(look: Look, archive: zipfile.ZipFile) -> Verdict:
    if archive.getinfo("schema.json").file_size > _MAX_SKOPS_SCHEMA:
        raise _bad(look, "a skops file with a schema of unlikely size", "Save the model again with skops.io.dump.")
    try:
        schema = orjson.loads(archive.read("schema.json"))
        root = f"{schema['__module__']}.{schema['__class__']}"
    except (orjson.JSONDecodeError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _bad(
            look, "a zip archive with a schema.json that is not skops'", "Save it with skops.io.dump."
        ) from error
    top = root.split(".", 1)[0]
    form = top if top in ("xgboost", "lightgbm", "catboost") else "sklearn"
    found = kinds.Found(form, "skops", f"a skops file of {root}", _skops_versions(schema))
    for library in (kinds.MODULES["skops"], kinds.LIBRARIES[form]):
        if not kinds.is_installed(library.module):
            raise kinds.missing(library, f"{look.path.name} is {found.what}")
    return found


def _skops_versions(schema: dict[str, object]) -> dict[str, str]:
    versions = {"skops": str(schema["_skops_version"])} if "_skops_version" in schema else {}
    content = schema.get("content")
    state = content.get("content") if isinstance(content, dict) else None
    recorded = state.get("_sklearn_version") if isinstance(state, dict) else None
    if isinstance(recorded, dict) and isinstance(value := recorded.get("content"), str):
        versions["scikit-learn"] = value.strip('"')
    return versions


def _onnx(look: Look) -> Verdict:
    if look.path.name == "saved_model.pb":
        return kinds.Refused("a TensorFlow SavedModel", kinds.UNSERVED["tensorflow"])
    versions = protowire.onnx(look.path)
    if versions is None:
        return None
    producer = f" made by {versions['producer']}" if "producer" in versions else ""
    return kinds.Found("onnx", "onnx", f"an ONNX model{producer}", versions)


def _xgboost(look: Look) -> Verdict:
    start = look.head.lstrip()
    if start.startswith(b"{") and b"learner" in start[:24]:
        variant = "json" if start[1:32].lstrip().startswith(b'"') else "ubj"
        version = marks.xgboost(look.tail)
        if not version or not look.tail.rstrip().endswith(b"}"):
            what = f"a truncated XGBoost model: it has {look.size} bytes and no end"
            raise _bad(look, what, "The copy or the download was cut short; copy the file again.")
        return kinds.Found("xgboost", variant, f"an XGBoost model ({variant})", {"xgboost": version})
    if start.startswith(b"[") and b'"nodeid"' in start[:4096]:
        raise _bad(
            look, "a text dump of an XGBoost model, which cannot be loaded", "Save it with model.save_model(path)."
        )
    if look.head.startswith(b"binf") or _LEGACY_XGBOOST.search(look.head[:4096]):
        return kinds.Refused(
            "an XGBoost model in the old binary form, which XGBoost itself no longer reads",
            "Load it with xgboost<3.1 and save it again: booster.load_model(path); booster.save_model('model.ubj').",
        )
    return None


def _lightgbm(look: Look) -> Verdict:
    if look.head.startswith((b"tree\n", b"tree\r\n")) and b"version=" in look.head[:64]:
        if not _holds(look.path, b"end of trees"):
            what = f"a truncated LightGBM model: it has {look.size} bytes and no end of trees"
            raise _bad(look, what, "The copy or the download was cut short; copy the file again.")
        return kinds.Found("lightgbm", "txt", "a LightGBM model (txt)", marks.of(look.head, b""))
    if look.head.startswith(b"{") and b'"tree_info"' in look.head and b'"num_tree_per_iteration"' in look.head:
        raise _bad(
            look, "a JSON dump of a LightGBM model, which cannot be loaded", "Save it with booster.save_model(path)."
        )
    return None


def _holds(path: pathlib.Path, text: bytes) -> bool:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.rfind(text) >= 0


def _catboost(look: Look) -> Verdict:
    if look.head.startswith(b'{"ctrs"') or (look.head.startswith(b"{") and b'"oblivious_trees"' in look.head):
        raise _bad(look, "a CatBoost model in JSON", "Save it as cbm: model.save_model('model.cbm').")
    if not look.head.startswith(b"CBM1"):
        return None
    # The magic number is followed by the size of the model's core (catboost/libs/model/model.cpp).
    core = int.from_bytes(look.head[4:8], "little")
    if look.size < 8 + core:
        what = f"a truncated CatBoost model: it has {look.size} bytes of at least {8 + core}"
        raise _bad(look, what, "The copy or the download was cut short; copy the file again.")
    with look.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        version = marks.catboost(data)
    return kinds.Found("catboost", "cbm", "a CatBoost model (cbm)", {"catboost": version} if version else {})


def _unserved(look: Look) -> Verdict:
    head = look.head
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100 << 20 and b'"dtype"' in head[:HEAD]:
        return kinds.Refused("a safetensors file: weights without the network", kinds.UNSERVED["huggingface"])
    for pattern, what, key in _UNSERVED:
        if pattern.search(head):
            return kinds.Refused(what, kinds.UNSERVED[key])
    for pattern, what, hint in _DATA:
        if pattern.search(head):
            raise _bad(look, what, hint)
    return None


_MODEL_INSTEAD = "Give the model file: the fitted estimator saved with joblib.dump, or the library's own format."
_UNSERVED = (
    (re.compile(rb"\A\x89HDF\r\n\x1a\n"), "an HDF5 file, as Keras writes", "keras"),
    (re.compile(rb"\A[\s\S]{0,2048}<PMML[\s>]"), "a PMML document", "pmml"),
    (re.compile(rb"\A[\s\S]{4}TFL3"), "a TensorFlow Lite model", "tensorflow"),
    (re.compile(rb"\AGGUF"), "a GGUF language model", "vLLM"),
    (re.compile(rb"\A[\s\S]{0,200}<net\s+name="), "an OpenVINO model", "openvino"),
    (re.compile(rb"\A(?:ftrt|ptrt)"), "a TensorRT engine", "tensorrt"),
)
_DATA = (
    (re.compile(rb"\A\x93NUMPY"), "a NumPy array, not a model", _MODEL_INSTEAD),
    (re.compile(rb"\APAR1"), "a Parquet table, not a model", _MODEL_INSTEAD),
    (re.compile(rb"\A[\s\S]{257}ustar"), "a tar archive, not a model by itself", "Unpack it and give what is inside."),
)


def _python(look: Look) -> Verdict:
    if look.path.suffix != ".py":
        return None
    if look.size > _MAX_SOURCE:
        raise _bad(look, f"a Python file of {look.size} bytes", "Give the small file that defines the model's class.")
    classes = model_classes(look.path)
    if not classes:
        raise _bad(
            look, "a Python file without a class that has predict", "docs/custom-models.md shows what it may look like."
        )
    return kinds.Found("python", "python", f"a Python file with the class {' and '.join(classes)}")


def model_classes(path: pathlib.Path) -> tuple[str, ...]:
    """The public classes at the top of a Python file that define ``predict``, read from its syntax tree."""
    try:
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except SyntaxError as error:
        raise errors.SpecError(
            f"{path.name} is not valid Python: {error.msg} (line {error.lineno or 1}).", hint="Correct the line."
        ) from error
    except ValueError as error:
        raise errors.SpecError(f"{path.name} is not Python source: {str(error)[:200]}.") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return tuple(name for name in classes if not name.startswith("_") and _predicts(name, classes, frozenset()))


def _predicts(name: str, classes: dict[str, ast.ClassDef], seen: frozenset[str]) -> bool:
    """Whether a class or a base of it in the same file defines ``predict``."""
    node = classes.get(name)
    if node is None or name in seen:
        return False
    if any(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == "predict" for item in node.body):
        return True
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return any(_predicts(base, classes, seen | {name}) for base in bases)


# First those that raise at what is no model, then magic numbers, then the ones that read on.
_RECOGNISERS: tuple[Callable[[Look], Verdict], ...] = (
    _no_model,
    _python,
    _zip,
    _pickle,
    _lightgbm,
    _catboost,
    _xgboost,
    _unserved,
    _onnx,
)


def identify(path: pathlib.Path, *, trusted: Collection[str] = ()) -> Verdict:
    """What the file is: a model that can be served, a recognised one that cannot, or None when nothing is known of it.

    A model is looked at once and known from then on while its file is the same.

    Raises ``errors.SpecError`` for a broken file and for files that are certainly no model.
    """
    # Asked before the bytes are read: those of a file that is replaced meanwhile are kept under a stamp of the past.
    stamp = learnt.stamp(path)
    known = (str(path), stamp, frozenset(trusted))
    if stamp is not None and (found := _FOUND.get(known)) is not None:
        return found
    look = Look(path, trusted=trusted)
    for recognise in _RECOGNISERS:
        if (verdict := recognise(look)) is not None:
            if stamp is not None and isinstance(verdict, kinds.Found):
                _FOUND.keep(known, verdict)
            return verdict
    return None
