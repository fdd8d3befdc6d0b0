from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship import errors
from mlship.api import check, honour, runtime

Make = Callable[..., Any]
WHO: dict[str, Any] = {"name": "iris", "namespace": "prod", "labels": {"team": "a"}, "annotations": {"x.y/z": "b"}}


def test_every_adapter_has_a_runtime_that_passes_our_own_rules() -> None:
    found = runtime.builtin()
    formats = [one.spec.supported_model_formats[0].name for one in found if one.spec.supported_model_formats]
    assert formats == ["sklearn", "xgboost", "lightgbm", "catboost", "onnx", "python"]
    for one in found:
        assert check.check(one) == ()
        assert runtime.is_builtin(one)
        serving = one.spec.serving()
        assert serving is not None
        assert serving.command == runtime.COMMAND


def test_a_users_runtime_is_not_ours(a_runtime: Make) -> None:
    assert not runtime.is_builtin(a_runtime("mine"))


@pytest.mark.parametrize(
    ("arg", "rendered"),
    [
        ("--name={{.Name}}", "--name=iris"),
        ("{{ .Namespace }}/{{.Name}}", "prod/iris"),
        ("{{- .Labels.team -}}", "a"),
        ('{{index .Annotations "x.y/z"}}', "b"),
        ("plain $(PORT) {}", "plain $(PORT) {}"),
    ],
)
def test_templates(arg: str, rendered: str) -> None:
    assert runtime.render_args([arg], **WHO) == (rendered,)


@pytest.mark.parametrize("arg", ["{{.Labels.none}}", "{{ range .Labels }}", "{{.Name | upper}}", "{{.Spec.x}}"])
def test_a_template_that_cannot_be_filled_in_is_refused(arg: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        runtime.render_args([arg], **WHO)
    assert caught.value.hint


def test_a_missing_label_is_no_mistake_of_the_runtime() -> None:
    runtime.check_template("{{.Labels.none}}")


def test_kserves_runtimes_have_stand_ins_where_there_is_one() -> None:
    assert runtime.alias("kserve-sklearnserver", "sklearn") == "mlship-sklearn"
    assert runtime.alias("kserve-mlserver", "xgboost") == "mlship-xgboost"
    assert runtime.alias("kserve-mlserver", "mlflow") == ""
    assert runtime.alias("mine", "sklearn") == ""


def test_a_runtime_of_an_image_needs_a_command_here(a_runtime: Make) -> None:
    found = a_runtime("mine", containers=[{"name": "kserve-container", "image": "x"}])
    (refused,) = honour.refusals(found)
    assert refused.field == "spec.containers[0].command"
    assert "command" in refused.hint
