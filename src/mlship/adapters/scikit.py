"""scikit-learn: estimators and pipelines saved with joblib, pickle, cloudpickle or skops.

The model's methods are its outputs: ``predict`` by default (``transform`` where there is none), ``predict_proba``,
``decision_function`` and the others by name or by the request parameter ``predict_method``. What it takes is read
from the fitted pipeline (``frameworks.steps``): a matrix, a DataFrame with columns of their own datatypes, or texts.
Objects of other libraries that have the same methods are served as well.
"""

from __future__ import annotations

from mlship.server import model
from mlship.server.artifact import schema_file
from mlship.server.frameworks import estimators, signatures, steps, unpickle


def load(artifact: model.Artifact) -> model.Model:
    """Load a pickled estimator; see ``model.Load``."""
    fitted = unpickle.load(artifact)
    methods = estimators.methods_of(fitted)
    if not methods:
        raise estimators.refuse(artifact, fitted)
    schema = schema_file.of(artifact)
    served = estimators.Estimator(
        methods,
        form=signatures.refine_form(steps.form(fitted), schema),
        platform=f"sklearn_{artifact.variant}",
        class_values=estimators.class_values(fitted),
        schema=schema,
        fitted=fitted,
        quick=estimators.is_quick(fitted),
        known_as=estimators.known_as(artifact),
    )
    return signatures.labelled(served, schema)
