from __future__ import annotations

import pytest

from mlship.api import load, problems, redact


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (("spec", "env", 0, "value"), True),
        (("spec", "env", 0, "name"), False),
        (("spec", "env"), True),
        (("spec", "args"), True),
        (("spec", "storage", "parameters"), True),
        (("stringData", "a"), True),
        (("data", "a"), True),
        (("spec", "storage", "parameters", "type"), True),
        (("spec", "args", 1), True),
        (("metadata", "annotations", "api-token"), True),
        (("metadata", "annotations", "team"), False),
        (("spec", "timeout"), False),
        ((), False),
    ],
)
def test_what_is_secret(path: problems.Path, hidden: bool) -> None:
    assert redact.is_secret(path) is hidden


@pytest.mark.parametrize("name", ["HF_TOKEN", "password", "AWS_SECRET_ACCESS_KEY", "MY_KEY", "apiKey", "DB_PWD"])
def test_secret_names(name: str) -> None:
    assert redact.secret_name(name)


@pytest.mark.parametrize("name", ["THREADS", "KEYS", "monkey", "PORT"])
def test_names_of_no_secret(name: str) -> None:
    assert not redact.secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/m.bin", "https://(hidden)@host/m.bin"),
        ("https://host/m.bin?sig=abc#x", "https://host/m.bin?(hidden)"),
        ("/models/iris", "/models/iris"),
        ("https://[bad/m?sig=abc", "https://(hidden)"),
        ("iris", "iris"),
    ],
)
def test_uris(text: str, shown: str) -> None:
    assert redact.uri(text) == shown


def test_arguments() -> None:
    assert redact.argument("--api-token=abc") == "--api-token=(hidden)"
    assert redact.argument("--threads=4") == "--threads=4"


def test_no_problem_of_a_document_full_of_mistakes_shows_a_secret() -> None:
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a, annotations: {my-token: 81818181}}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: https://u:81818181@host
      env:
        - {name: HF_TOKEN, value: 81818181}
        - {name: HF_TOKEN, value: ["81818181"]}
      args: ["--password", 81818181]
      storage: {parameters: {secret: 81818181}, kye: x}
      resources: {limits: {cpu: "81818181 "}}
"""
    found = load.load(text, source="a.yaml")
    said = "\n".join(str(problem) for problem in found.problems if "cpu" not in problem.field)
    assert "env[0].value" in said
    assert "parameters" in said
    assert "81818181" not in said
