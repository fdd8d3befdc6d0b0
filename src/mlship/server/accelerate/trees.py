"""Trees to one ONNX Runtime session that gives the bits the original gives. The door to onnx and onnxruntime.

Two things make compiled forests differ from their originals: thresholds rounded to single precision, which sends a row
that lies on a threshold down the other branch, and sums in another order or precision, which moves the last bits and
with them ties between classes. Neither happens here. The operator is ``TreeEnsemble`` (ai.onnx.ml, version 5), whose
thresholds, leaves and sums are of the input's type: double for scikit-learn and LightGBM, whose thresholds are, with
scikit-learn's inputs rounded to single precision first, as scikit-learn itself does; single for XGBoost. Trees are
added up in their own order, a starting score being a first tree of one leaf. A leaf can add to one target only, so a
classifier's tree appears once for each class, but for one class where the others follow exactly (``sk_trees``).

Source: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlship.protocol import messages
from mlship.server.accelerate import kernel

CONVERTER = "onnxruntime TreeEnsemble"
# Beyond this many nodes, building and holding a second copy of the model costs more than it is worth at load.
MAX_NODES = 2_000_000
_LEQ, _LT = 0, 1
_SUM = 1
_IR, _OPSET, _ML_OPSET = 10, 21, 5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One tree as arrays with an element a node, the root first; ``left`` is -1 at leaves.

    A row goes left when its ``feature`` is at most (or less than, see ``Ensemble``) ``threshold``; a missing value
    goes left where ``missing_left``. ``value`` is what a leaf adds to ``target``.
    """

    feature: messages.Array
    threshold: messages.Array
    left: messages.Array
    right: messages.Array
    value: messages.Array
    target: int = 0
    missing_left: messages.Array | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Trees that are added up. ``dtype``: of comparisons and sums; ``less``: left is "less than", not "at most"."""

    trees: Sequence[Tree]
    targets: int
    features: int
    dtype: npt.DTypeLike = np.float64
    less: bool = False


def constant(value: float, target: int = 0) -> Tree:
    """A tree of one leaf: a score to start from."""
    nothing = np.array([-1])
    return Tree(nothing, np.zeros(1), nothing, nothing, np.array([value]), target)


def thresholds(ensemble: Ensemble) -> dict[int, messages.Array]:
    """The values at which the ensemble branches, by feature, each once."""
    parts: dict[int, list[messages.Array]] = {}
    for tree in ensemble.trees:
        inner = tree.left >= 0
        for feature in np.unique(tree.feature[inner]):
            parts.setdefault(int(feature), []).append(tree.threshold[inner & (tree.feature == feature)])
    return {feature: np.unique(np.concatenate(values).astype(np.float64)) for feature, values in parts.items()}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An ensemble to compile, and what its converter must know of it when it finds it compiled (``kernel.Form``)."""

    ensemble: Ensemble
    notes: Mapping[str, str | int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """``run``: from a matrix of the ensemble's type to scores of shape (rows, targets), on one thread."""

    run: kernel.Step
    form: kernel.Form
    thresholds: Mapping[int, messages.Array]


def compiled(plan: Callable[[], Plan], kept: kernel.Form | None = None) -> Compiled:
    """What ``plan`` makes, or what was kept of it: then nothing is asked of ``plan``.

    Raises ``kernel.Unsupported`` when the packages are missing or the ensemble is too large; what ONNX Runtime raises
    goes to the caller.
    """
    _need("onnxruntime")
    if kept is not None:
        return Compiled(_session(kept.data), kept, {})
    _need("onnx")
    made = plan()
    if sum(len(tree.left) for tree in made.ensemble.trees) > MAX_NODES:
        raise kernel.Unsupported(f"it has more than {MAX_NODES} tree nodes")
    form = kernel.Form(_model(made.ensemble), made.notes)
    return Compiled(_session(form.data), form, thresholds(made.ensemble))


def _need(package: str) -> None:
    if not _installed(package):
        raise kernel.Unsupported(f"{package} is not installed; pip install 'mlship[accelerate]'")


def _installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _session(model: bytes) -> kernel.Step:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One operator has nothing to reuse, and an arena keeps what the largest batch ever took.
    options.enable_cpu_mem_arena = False
    ask = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run
    names = ["Y"]

    def run(matrix: messages.Array) -> messages.Array:
        found: messages.Array = ask(names, {"X": matrix})[0]
        return found

    return run


def _model(ensemble: Ensemble) -> bytes:
    """The ONNX model's bytes."""
    onnx: Any = importlib.import_module("onnx")
    helper: Any = importlib.import_module("onnx.helper")
    numpy_helper: Any = importlib.import_module("onnx.numpy_helper")
    dtype = np.dtype(ensemble.dtype)
    parts = _Nodes(_LT if ensemble.less else _LEQ)
    for tree in ensemble.trees:
        parts.add(tree)
    node = helper.make_node(
        "TreeEnsemble",
        ["X"],
        ["Y"],
        domain="ai.onnx.ml",
        n_targets=ensemble.targets,
        aggregate_function=_SUM,
        post_transform=0,
        nodes_splits=numpy_helper.from_array(parts.array("nodes_splits", dtype)),
        nodes_modes=numpy_helper.from_array(np.full(parts.nodes, parts.mode, dtype=np.uint8)),
        leaf_weights=numpy_helper.from_array(parts.array("leaf_weights", dtype)),
        **{name: parts.array(name, np.dtype(np.int64)).tolist() for name in _WHOLE},
    )
    kind = onnx.TensorProto.DOUBLE if dtype == np.float64 else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("X", kind, [None, ensemble.features])],
        [helper.make_tensor_value_info("Y", kind, [None, ensemble.targets])],
    )
    operators = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    made: bytes = helper.make_model(graph, opset_imports=operators, ir_version=_IR).SerializeToString()
    return made


_WHOLE = (
    "tree_roots",
    "nodes_featureids",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_trueleafs",
    "nodes_falseleafs",
    "nodes_missing_value_tracks_true",
    "leaf_targetids",
)


class _Nodes:
    """The operator's attributes, collected tree by tree: inner nodes and leaves are numbered apart, over all trees."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.nodes = 0
        self._leaves = 0
        self._parts: dict[str, list[messages.Array]] = {}

    def array(self, name: str, dtype: np.dtype[Any]) -> messages.Array:
        return np.concatenate(self._parts[name]).astype(dtype)

    def add(self, tree: Tree) -> None:
        inner = tree.left >= 0
        if not inner[0]:
            self._add_leaf(tree)
            return
        ids = np.where(inner, np.cumsum(inner) - 1 + self.nodes, np.cumsum(~inner) - 1 + self._leaves)
        left, right = tree.left[inner], tree.right[inner]
        missing = np.zeros(len(left)) if tree.missing_left is None else tree.missing_left[inner]
        self._append(
            tree_roots=[ids[0]],
            nodes_featureids=tree.feature[inner],
            nodes_splits=tree.threshold[inner],
            nodes_truenodeids=ids[left],
            nodes_falsenodeids=ids[right],
            nodes_trueleafs=~inner[left],
            nodes_falseleafs=~inner[right],
            nodes_missing_value_tracks_true=missing,
            leaf_weights=tree.value[~inner],
            leaf_targetids=np.full(int((~inner).sum()), tree.target),
        )

    def _add_leaf(self, tree: Tree) -> None:
        """The operator wants a node at the root: one that leads to the same leaf either way."""
        self._append(
            tree_roots=[self.nodes],
            nodes_featureids=[0],
            nodes_splits=[0.0],
            nodes_truenodeids=[self._leaves],
            nodes_falsenodeids=[self._leaves],
            nodes_trueleafs=[1],
            nodes_falseleafs=[1],
            nodes_missing_value_tracks_true=[0],
            leaf_weights=tree.value[:1],
            leaf_targetids=[tree.target],
        )

    def _append(self, **parts: Iterable[Any]) -> None:
        for name, values in parts.items():
            self._parts.setdefault(name, []).append(np.asarray(values))
        self.nodes += len(self._parts["nodes_splits"][-1])
        self._leaves += len(self._parts["leaf_weights"][-1])
