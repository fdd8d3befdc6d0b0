"""What a zygote imports before its first child: the server, and all that a model of one format may need to load.

A child imports nothing that stands here: that is most of what makes it quick, and memory it shares. Only importing is
done, never loading: a library that has started a thread, opened a session or run a parallel region cannot be forked
(``zygote`` counts the threads). Modules that are not installed are left out, as they are in a cold start.
"""

from __future__ import annotations

import importlib
import logging

from mlship.server import loading, logs, pools, settings
from mlship.server.artifact import versions

LOG = logging.getLogger(__name__)

# Where the classes live that pickled pipelines are made of.
_SKLEARN = (
    "joblib",
    "sklearn.calibration",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.gaussian_process",
    "sklearn.impute",
    "sklearn.isotonic",
    "sklearn.kernel_approximation",
    "sklearn.linear_model",
    "sklearn.mixture",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
)
_SERVER = (
    "mlship.server.main",
    "mlship.server.frameworks.estimators",
    "mlship.server.frameworks.unpickle",
    "uvicorn.lifespan.off",
    "uvicorn.loops.auto",
    "uvloop",
    "encodings.ascii",
    "encodings.idna",
    "threadpoolctl",
)
# What answers for a model in its compiled form.
_KERNEL = ("onnxruntime",)
LIBRARIES: dict[str, tuple[str, ...]] = {
    "sklearn": (*_SKLEARN, *_KERNEL, "pandas"),
    "xgboost": (*_SKLEARN, *_KERNEL, "pandas", "xgboost", "xgboost.sklearn"),
    "lightgbm": (*_SKLEARN, *_KERNEL, "pandas", "lightgbm", "lightgbm.sklearn"),
    "catboost": ("pandas", "catboost"),
    "onnx": ("onnxruntime",),
    "python": (),
}


def everything(framework: str) -> None:
    """Import what models of the format ``framework`` need.

    Raises:
        MlshipError: its adapter cannot be imported.
        KeyError: there is no such format.
    """
    for module in _SERVER:
        importlib.import_module(module)
    loading.remember(framework)
    for module in LIBRARIES[framework]:
        _library(module)
    _practise()


def _practise() -> None:
    """Do what every start does and nothing remembers otherwise."""
    settings.parse(["--model-path", "model", "--cpus", "1"])
    versions.installed(versions.KNOWN)
    pools.look()


def _library(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        # A child that needs it says so better, with the model's name and what to install.
        LOG.info("not imported", extra=logs.fields(module=module, error=str(error)[:300]))
