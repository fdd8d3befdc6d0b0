"""What the words of a command line name, among the kinds that the control API tells of."""

import pytest

from mlship import answers, client, errors
from mlship.cli import naming
from mlship.control import discovery, rules


class Control:
    """The kinds as the control API tells of them, and a few services."""

    def __init__(self) -> None:
        catalog = rules.catalog()
        listed = [
            discovery.group_resources(catalog, group, version)
            for group, versions in catalog.versions().items()
            for version in versions
        ]
        self.kinds = [kind for one in listed for kind in answers.kinds(one)]

    def kind(self, word: str) -> client.Kind | None:
        return next((one for one in self.kinds if word.lower() in one.names), None)

    def served(self) -> tuple[client.Kind, ...]:
        return tuple(one for one in self.kinds if one.served)


def names(*words: str, services: bool = False) -> list[tuple[str, str]]:
    found = naming.parse(Control(), words, services=services)  # type: ignore[arg-type]
    return [(one.kind.kind if one.kind else "", one.name) for one in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["iris"], [("", "iris")]),
        (["so"], [("", "so")]),
        (["so", "iris"], [("ScaledObject", "iris")]),
        (["ScaledObject", "a", "b"], [("ScaledObject", "a"), ("ScaledObject", "b")]),
        (["scaledobjects.keda.sh/iris"], [("ScaledObject", "iris")]),
        (["tm/a", "isvc/b"], [("TrainedModel", "a"), ("InferenceService", "b")]),
        (["clusterservingruntime/mine"], [("ClusterServingRuntime", "mine")]),
    ],
)
def test_words_are_read_as_kubectl_reads_them(words, expected):
    assert names(*words) == expected
    assert names(*words, services=True) == expected


def test_several_words_without_a_kind_are_services_only_where_that_can_be_meant():
    assert names("iris", "wine", services=True) == [("", "iris"), ("", "wine")]
    with pytest.raises(errors.SpecError, match="no kind 'iris'"):
        names("iris", "wine")


@pytest.mark.parametrize("words", [["rocket", "x"], ["rocket/x"], ["deployment/x"]])
def test_an_unknown_kind_is_told_with_those_there_are(words):
    with pytest.raises(errors.SpecError) as caught:
        names(*words)
    assert caught.value.reason is errors.Reason.NOT_FOUND
    told = str(caught.value)
    assert "ScaledObject (scaledobjects, so)" in told
    assert "TrainedModel (trainedmodels, tm)" in told
    assert "InferenceGraph" not in told


def test_a_kind_that_is_only_refused_has_no_objects():
    with pytest.raises(errors.SpecError, match="No InferenceGraph is ever kept"):
        names("ig", "x")


@pytest.mark.parametrize(("words", "told"), [(["so/a", "b"], "KIND/NAME for all"), (["so/"], "so/NAME")])
def test_words_that_are_half_a_name(words, told):
    with pytest.raises(errors.SpecError, match=told):
        names(*words)
