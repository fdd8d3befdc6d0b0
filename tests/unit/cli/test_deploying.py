import dataclasses

import pytest
import yaml

from mlship import errors
from mlship.api import load
from mlship.cli import deploying

ASKED = deploying.Asked(
    model="./m.joblib",
    name="",
    namespace="default",
    format="",
    options=(),
    replicas="1",
    env=(),
    port="",
    wait=1,
    dry_run=False,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("./Churn_Model-v2.pkl", "churn-model-v2"),
        ("/models/iris/", "iris"),
        ("https://host/a/fraud.tar.gz#sha256=abc", "fraud"),
        ("https://host/fraud.joblib?token=x.y", "fraud"),
        ("2024.joblib", "model-2024"),
        (".hidden.pkl", "hidden"),
        ("x" * 90 + ".pkl", "x" * 40),
    ],
)
def test_a_service_is_called_after_its_file(text, name):
    assert deploying.name_of(text) == name


def test_a_name_of_nothing_but_marks_asks_for_one():
    with pytest.raises(errors.SpecError, match="--name"):
        deploying.name_of("/tmp/___.pkl")


def test_the_declared_object_is_a_valid_inference_service_and_says_what_was_asked():
    asked = dataclasses.replace(ASKED, replicas="3", env=("A=b=c",), name="iris", namespace="team")
    body = deploying.declare(asked, "file:///m.joblib", "sklearn", {"trusted": "x"})
    load.parse(yaml.safe_load(yaml.safe_dump(body)))
    assert body["metadata"] == {"name": "iris", "namespace": "team"}
    predictor = body["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (3, 3)
    assert predictor["model"]["env"] == [{"name": "A", "value": "b=c"}]
    assert predictor["model"]["args"] == ["--model-option", "trusted=x"]


def test_what_was_not_asked_for_is_not_declared():
    body = deploying.declare(ASKED, "file:///m.joblib", "sklearn", {})
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m.joblib"}
    assert body["spec"] == {"predictor": {"model": model}}
    assert body["metadata"]["name"] == "m"


@pytest.mark.parametrize(("text", "expected"), [("1", (1, 1)), ("0-5", (0, 5)), ("2-2", (2, 2)), ("12", (12, 12))])
def test_replicas_are_a_number_or_bounds(text, expected):
    assert deploying.bounds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "no replica"),
        ("0-0", "no replica"),
        ("5-2", "ends before"),
        ("two", "neither"),
        ("-1", "neither"),
        ("1-", "neither"),
        ("\u0663", "neither"),
    ],
)
def test_replicas_that_mean_nothing_are_refused(text, said):
    with pytest.raises(errors.SpecError, match=said) as caught:
        deploying.bounds(text)
    assert caught.value.hint


def test_bounds_are_declared_as_such():
    body = deploying.declare(dataclasses.replace(ASKED, replicas="0-5"), "file:///m.joblib", "sklearn", {})
    load.parse(yaml.safe_load(yaml.safe_dump(body)))
    predictor = body["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 5)


def test_accelerate_becomes_an_annotation() -> None:
    asked = dataclasses.replace(ASKED, accelerate="exact")
    body = deploying.declare(asked, "file:///m.joblib", "sklearn", {})
    assert body["metadata"]["annotations"] == {"mlship.dev/accelerate": "exact"}
    assert "annotations" not in deploying.declare(ASKED, "file:///m.joblib", "sklearn", {})["metadata"]
