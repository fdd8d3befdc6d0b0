from __future__ import annotations

import pytest

from mlship.api import check_storage, component


@pytest.mark.parametrize(
    "uri",
    [
        "/models/iris",
        "models/iris.joblib",
        "C:model",
        "file:///models/iris",
        "https://example.com/m.bin?sig=a",
        "pvc://models/iris",
        "s3://bucket/a",
        "models:/iris/1",
        "custom-scheme://x",
    ],
)
def test_good_uris(uri: str) -> None:
    assert list(check_storage.check_uri(uri, ("u",))) == []


@pytest.mark.parametrize(
    ("uri", "reason", "hint"),
    [
        ("", "is empty", "write the path or URI of the model"),
        (" /m", "has spaces around it or control characters in it", "remove them"),
        ("/m\n/n", "has spaces around it or control characters in it", "remove them"),
        ("htps://a/b", "unknown scheme htps://", "did you mean https://?"),
        ("gcs://a/b", "unknown scheme gcs://", "did you mean gs://?"),
        ("s3:/bucket/a", "s3:/bucket/a is not a URI: // is missing", "write s3://bucket/a"),
        ("pvc:models", "pvc:models is not a URI: // is missing", "write pvc://models"),
        ("https://", "https:// names nothing behind its scheme", "add the path of the model"),
    ],
)
def test_bad_uris(uri: str, reason: str, hint: str) -> None:
    (found,) = check_storage.check_uri(uri, ("u",))
    assert (found.reason, found.hint) == (reason, hint)


@pytest.mark.parametrize(
    ("uri", "scheme"), [("/m", ""), ("S3://a", "s3"), ("a:b", ""), ("pvc:a", "pvc"), ("x://y", "x"), ("", "")]
)
def test_schemes(uri: str, scheme: str) -> None:
    assert check_storage.scheme_of(uri) == scheme


@pytest.mark.parametrize(
    ("mounts", "where"),
    [
        ([("/a", "/mnt/models/a"), ("/b", "/mnt/models/b")], []),
        ([("/a", "/"), ("/b", "/mnt/b")], ["u[0].mountPath", "u"]),
        ([("/a", "/x/../y")], ["u[0].mountPath"]),
        ([("/a", "/x"), ("/b", "/y")], ["u"]),
        ([("pvc://a/b", "/x"), ("pvc://c/d", "/x")], ["u[1].mountPath"]),
        ([("pvc://a/b", "/x"), ("/c", "/y")], []),
        ([("", None)], ["u[0].uri"]),
    ],
)
def test_several_artifacts(mounts: list[tuple[str, str | None]], where: list[str]) -> None:
    uris = [component.StorageUri.model_construct(uri=uri, mount_path=mount) for uri, mount in mounts]
    assert [problem.field for problem in check_storage.check_uris(uris, ("u",))] == where
