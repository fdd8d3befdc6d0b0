from __future__ import annotations

from mlship.api import extras, load


def test_a_trained_model_and_a_raw_kind() -> None:
    model = {"storageUri": "/m", "framework": "sklearn", "memory": "1Gi"}
    raw = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "m"},
        "spec": {"inferenceService": "iris", "model": model},
    }
    found = load.parse(raw)
    assert isinstance(found, extras.TrainedModel)
    assert found.spec.model.memory == "1Gi"
    llm = load.parse(
        {
            "apiVersion": "serving.kserve.io/v1alpha2",
            "kind": "LLMInferenceService",
            "metadata": {"name": "l"},
            "spec": {"anything": 1},
        }
    )
    assert isinstance(llm, extras.RawObject)
    assert llm.spec == {"anything": 1}
