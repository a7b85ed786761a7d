from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.annotations import KEYS
from cni_netdev.core.errors import RequestError
from cni_netdev.manifests import PodManifest, documents, is_manifest, pods_in, requests_of

ASKS = {KEYS[0]: "- name: nic1\n"}
METADATA = {
    "name": "solver",
    "namespace": "hpc-1",
    "labels": {"b": "2", "a": "1"},
    "annotations": ASKS,
}
LABELS = (("a", "1"), ("b", "2"))


def only(document: dict[str, Any]) -> PodManifest:
    assert is_manifest(document)
    (found,) = pods_in(document)
    return found


def test_a_pod() -> None:
    pod = only({"kind": "Pod", "metadata": METADATA})
    assert pod == PodManifest("metadata", "solver", "hpc-1", LABELS, ASKS)
    assert [str(each.selector) for each in requests_of(pod)] == ["name 'nic1'"]
    bare = only({"kind": "Pod", "metadata": {}})
    assert bare == PodManifest("metadata", "", None, (), {})
    assert requests_of(bare) == ()


def test_what_has_a_template() -> None:
    """The namespace and, where the template has none, the name are the outer one's."""
    template = {"metadata": {"labels": METADATA["labels"], "annotations": ASKS}}
    outer = {"name": "web", "namespace": "prod", "labels": {"not": "the pods'"}}
    found = PodManifest("spec.template.metadata", "web", "prod", LABELS, ASKS)
    assert only({"kind": "Deployment", "metadata": outer, "spec": {"template": template}}) == found
    job = {"jobTemplate": {"spec": {"template": template}}}
    path = "spec.jobTemplate.spec.template.metadata"
    assert only({"kind": "CronJob", "metadata": outer, "spec": job}) == found._replace(path=path)


def test_a_list() -> None:
    template = {"metadata": {"annotations": ASKS}}
    web = {"kind": "DaemonSet", "metadata": {"name": "web"}, "spec": {"template": template}}
    items: list[Any] = [{"kind": "Pod", "metadata": METADATA}, None, web, {"kind": "List"}]
    document = {"kind": "List", "apiVersion": "v1", "items": items}
    assert is_manifest(document)
    first, second, third = pods_in(document)
    assert (first.path, first.name) == ("items[0].metadata", "solver")
    assert (second.path, second.name) == ("items[2].spec.template.metadata", "web")
    assert (third.path, third.annotations) == ("items[3].metadata", {})
    document["items"] = [{"kind": "Pod", "metadata": {"name": each}} for each in (1, "ok", 2)]
    with pytest.raises(RequestError) as caught:
        pods_in(document)
    paths = [each.path for each in caught.value.faults]
    assert paths == ["items[0].metadata.name", "items[2].metadata.name"]


def test_a_list_that_is_in_itself() -> None:
    (document,) = documents("&a {kind: List, items: [*a]}")
    (only_one,) = pods_in(document)
    assert only_one.annotations == {}


def test_faults_have_their_path() -> None:
    metadata = {"annotations": {KEYS[0]: "- nme: x"}}
    pod = only({"kind": "Job", "metadata": {}, "spec": {"template": {"metadata": metadata}}})
    with pytest.raises(RequestError) as caught:
        requests_of(pod)
    where = f"spec.template.metadata.annotations['{KEYS[0]}'][0]"
    assert caught.value.faults[0].path == f"{where}.nme"
    with pytest.raises(RequestError) as caught:
        pods_in({"kind": "Pod", "metadata": {"name": 5, "labels": {"a": 1, "\x1b": ["x"]}}})
    assert [str(each) for each in caught.value.faults] == [
        "metadata.name: must be text, not 5",
        "metadata.labels.a: must be text, not 1",
        r"metadata.labels.\x1b: must be text, not ['x']",
    ]


def test_documents() -> None:
    assert documents('{"a": 1}') == [{"a": 1}]
    assert documents("a: &x 1\n---\nb: 2\nc: {d: 3}\n") == [{"a": 1}, {"b": 2, "c": {"d": 3}}]
    for text in ("[", "!!python/name:os.system", "[" * 100_000, "- [" * 100_000, "{a: " * 70):
        assert documents(text) == []
    assert not is_manifest([])
    assert not is_manifest({"kind": "Pod"})


def test_a_bomb_of_aliases_is_only_looked_at_from_outside() -> None:
    bomb = ["a0: &a0 [lol]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    pod = f"kind: Pod\nmetadata: {{labels: {{x: *a19}}, annotations: {{{KEYS[0]}: *a19}}}}"
    (document,) = documents("\n".join([*bomb, pod]))
    with pytest.raises(RequestError, match=r"metadata\.labels\.x: must be text") as caught:
        pods_in(document)
    assert len(caught.value.message) < 200
    del document["metadata"]["labels"]
    with pytest.raises(RequestError, match="the annotation must be text") as caught:
        requests_of(only(document))
    assert len(caught.value.message) < 200


@given(
    st.recursive(
        st.none() | st.text(max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(("metadata", "spec", "template", "labels", "annotations", "name")),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_document_has_pods_or_raises_RequestError(value: Any) -> None:  # noqa: N802
    document = {"kind": "Pod", "metadata": value, "spec": value}
    assert documents(json.dumps(document)) == [document]
    with suppress(RequestError):
        assert pods_in(document)
