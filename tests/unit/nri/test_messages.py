"""NRI's messages: each method, round trips, and runtimes that know more than we do."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_plugin import messages
from nri_plugin.errors import Code, Refusal
from nri_plugin.messages import (
    PLUGIN_SERVICE,
    RUNTIME_SERVICE,
    Configure,
    CreateContainer,
    Ignored,
    PodEvent,
    PodSandbox,
    Shutdown,
    Synchronize,
    decode,
)
from nri_plugin.proto import nri_pb2
from tests.wire import EVENTS, POD, configure, field, pod_request, state_change, synchronize

TEXTS = st.text(max_size=12)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=3)
PODS = st.builds(
    PodSandbox,
    id=st.text(min_size=1, max_size=12),
    name=TEXTS,
    uid=TEXTS,
    namespace=TEXTS,
    labels=MAPS,
    annotations=MAPS,
    netns=TEXTS,
    pid=st.integers(0, 2**32 - 1),
)
# As `field` writes it, of kinds and numbers that no message of ours has.
UNKNOWN = st.lists(
    st.builds(field, st.integers(20, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=9)),
    max_size=3,
).map(b"".join)


def refused(method: str, payload: bytes = b"", service: str = PLUGIN_SERVICE) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(service, method, payload)
    return caught.value


@pytest.mark.parametrize(("what", "method"), EVENTS.items())
def test_pod_events(what: str, method: str) -> None:
    assert decode(PLUGIN_SERVICE, method, pod_request()) == PodEvent(what, POD)  # type: ignore[arg-type]


@given(PODS, UNKNOWN, st.sampled_from(sorted(EVENTS)))
def test_pods_survive_the_wire_whatever_else_is_told(
    pod: PodSandbox, unknown: bytes, what: str
) -> None:
    payload = pod_request(pod)
    assert decode(PLUGIN_SERVICE, EVENTS[what], payload + unknown) == PodEvent(what, pod)  # type: ignore[arg-type]


@given(st.lists(PODS, max_size=3), st.booleans())
def test_synchronize(pods: list[PodSandbox], more: bool) -> None:
    payload = synchronize(*pods, more=more)
    assert decode(PLUGIN_SERVICE, "Synchronize", payload) == Synchronize(tuple(pods), more)


def test_synchronize_tolerates_containers_and_pods_without_a_name() -> None:
    container = field(2, field(1, "k1") + field(3, "main"))
    found = decode(PLUGIN_SERVICE, "Synchronize", synchronize(POD, PodSandbox("")) + container)
    assert found == Synchronize((POD, PodSandbox("")), more=False)


def test_create_container() -> None:
    payload = pod_request(container="main")
    assert decode(PLUGIN_SERVICE, "CreateContainer", payload) == CreateContainer(POD, "main")
    assert decode(PLUGIN_SERVICE, "CreateContainer", pod_request()) == CreateContainer(POD, "")


@pytest.mark.parametrize(("event", "what"), [(1, "run"), (2, "stop"), (3, "remove")])
def test_state_changes_of_pods(event: int, what: str) -> None:
    found = decode(PLUGIN_SERVICE, "StateChange", state_change(event))
    assert found == PodEvent(what, POD)  # type: ignore[arg-type]


@pytest.mark.parametrize("event", [0, *range(4, 16), 2**31 - 1, -1, -(2**31)])
def test_other_state_changes_are_nothing_to_us(event: int) -> None:
    found = decode(PLUGIN_SERVICE, "StateChange", state_change(event, PodSandbox("")))
    assert found == Ignored(f"state change {event}")


def test_configure() -> None:
    found = decode(PLUGIN_SERVICE, "Configure", configure("adopt: true", 2500))
    assert found == Configure("adopt: true", "containerd", "v2.4.2", 5.0, 2.5, "0.12.0")


@pytest.mark.parametrize("milliseconds", [0, -5])
def test_configure_before_nri_0_9_tells_no_times(milliseconds: int) -> None:
    payload = nri_pb2.ConfigureRequest(
        registration_timeout=milliseconds, request_timeout=milliseconds
    ).SerializeToString()
    found = decode(PLUGIN_SERVICE, "Configure", payload)
    assert isinstance(found, Configure)
    assert (found.registration_timeout, found.request_timeout) == (None, None)


def test_shutdown() -> None:
    assert decode(PLUGIN_SERVICE, "Shutdown", field(7, "why")) == Shutdown()


def test_fields_of_a_pod_that_we_do_not_read() -> None:
    """runtime_handler 7, ips 10; pod_overhead 1, cgroup_parent 3 and other namespaces in linux."""
    pid, net = (
        field(5, field(1, kind) + field(2, path))
        for kind, path in (("pid", "/p"), ("network", "/n"))
    )
    linux = field(1, field(3, 5)) + field(3, "kubepods") + pid + net + net.replace(b"/n", b"/m")
    pod = field(1, "c1") + field(7, "runc") + field(8, linux) + field(10, "10.0.0.1") + field(99, 1)
    found = decode(PLUGIN_SERVICE, "RunPodSandbox", field(1, pod))
    assert found == PodEvent("run", PodSandbox("c1", netns="/n")), "the first network namespace"


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (PLUGIN_SERVICE, "UpdatePodSandbox"),
        (PLUGIN_SERVICE, "ValidateContainerAdjustment"),
        (PLUGIN_SERVICE, "runPodSandbox"),
        (PLUGIN_SERVICE, ""),
        (RUNTIME_SERVICE, "RunPodSandbox"),
        ("", "Configure"),
    ],
)
def test_what_is_no_method_of_ours(service: str, method: str) -> None:
    refusal = refused(method, service=service)
    assert refusal.code == Code.UNIMPLEMENTED
    assert f"{service}/{method}" in refusal.message


@pytest.mark.parametrize("method", [*EVENTS.values(), "CreateContainer"])
def test_an_event_without_its_pod_is_refused(method: str) -> None:
    for payload in (b"", pod_request(PodSandbox("", "name"))):
        refusal = refused(method, payload)
        assert (refusal.code, refusal.message) == (Code.INVALID_ARGUMENT, "pod.id: is empty")
    assert refused("StateChange", state_change(1, PodSandbox(""))).code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("method", sorted(set(messages._METHODS) - {"Shutdown"}))
@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05ab", field(1, b"\x0a\x01\xff")])
def test_payloads_that_cannot_be_decoded(method: str, payload: bytes) -> None:
    if method == "StateChange":
        payload = payload.replace(b"\x0a", b"\x12", 1)  # its pod is field 2
    if method == "Configure":
        payload = b"\x0a\x01\xff"
    refusal = refused(method, payload)
    assert refusal.code == Code.INVALID_ARGUMENT
    assert refusal.message.startswith(f"{method}: the payload cannot be decoded")


@given(st.sampled_from(sorted(messages._METHODS)), st.binary(max_size=60))
def test_arbitrary_payloads_raise_only_Refusal(method: str, payload: bytes) -> None:  # noqa: N802
    with suppress(Refusal):
        decode(PLUGIN_SERVICE, method, payload)


# --- what we say -----------------------------------------------------------------------------


def test_register() -> None:
    """By hand, since the numbers are the interface: plugin_name 1, plugin_idx 2, NRI_version 3."""
    wanted = field(1, "injector") + field(2, "10") + field(3, messages.NRI_VERSION)
    assert messages.register("injector", "10") == wanted


def test_configured_asks_for_pods_and_the_creation_of_containers() -> None:
    """ConfigureResponse has its events in field 2; event n is bit n - 1."""
    assert messages.EVENT_MASK == 0b1111
    assert messages.configured() == field(2, 0b1111)


def test_synchronized_echoes_more() -> None:
    assert messages.synchronized(more=True) == field(2, 1)
    assert messages.synchronized(more=False) == b""
