"""NRI's messages as values, and values as messages; pure.

Names, numbers and meanings are those of containerd/nri, pkg/api/api.proto; proto/nri.proto has
what we use of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from google.protobuf.message import DecodeError

from nri_plugin.errors import Code, Refusal
from nri_plugin.proto import nri_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NRI_VERSION = "0.12.0"
RUNTIME_SERVICE = "nri.pkg.api.v1alpha1.Runtime"
PLUGIN_SERVICE = "nri.pkg.api.v1alpha1.Plugin"

Happening = Literal["run", "stop", "remove"]
_EVENTS: dict[int, Happening] = {1: "run", 2: "stop", 3: "remove"}
_CREATE_CONTAINER = 4
# What we want to hear of; an event n is bit n - 1.
EVENT_MASK = sum(1 << (event - 1) for event in (*_EVENTS, _CREATE_CONTAINER))


class PodSandbox(NamedTuple):
    """A pod as the runtime tells it.

    netns: path of its network namespace, or "" when none was told: at Run that is the host's
    network; later it may just be gone.
    """

    id: str
    name: str = ""
    uid: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    netns: str = ""
    pid: int = 0


class Configure(NamedTuple):
    """The runtime introduces itself.  Timeouts in seconds, None when not told (before NRI 0.7)."""

    config: str
    runtime_name: str
    runtime_version: str
    registration_timeout: float | None
    request_timeout: float | None
    nri_version: str


class Synchronize(NamedTuple):
    """Pods that exist; more are to come in further messages."""

    pods: tuple[PodSandbox, ...]
    more: bool


class PodEvent(NamedTuple):
    """A pod is being started, was stopped, or is removed."""

    what: Happening
    pod: PodSandbox


class CreateContainer(NamedTuple):
    """A container is about to be created in a pod."""

    pod: PodSandbox
    container: str


class Shutdown(NamedTuple):
    """The runtime will not call again."""


class Ignored(NamedTuple):
    """Something that we need not hear of."""

    what: str


Request = Configure | Synchronize | PodEvent | CreateContainer | Shutdown | Ignored


def decode(service: str, method: str, payload: bytes) -> Request:
    """A call of the runtime's.

    Raises Refusal: Unimplemented for what is no method of ours, InvalidArgument for a payload
    that cannot be decoded or names no pod.
    """
    decoder = _METHODS.get(method) if service == PLUGIN_SERVICE else None
    if decoder is None:
        raise Refusal(Code.UNIMPLEMENTED, f"{service}/{method} is not implemented")
    try:
        return decoder(payload)
    except DecodeError as error:
        raise Refusal(
            Code.INVALID_ARGUMENT, f"{method}: the payload cannot be decoded: {error}"
        ) from error


def register(name: str, index: str) -> bytes:
    """RegisterPlugin's payload."""
    return nri_pb2.RegisterPluginRequest(
        plugin_name=name, plugin_idx=index, nri_version=NRI_VERSION
    ).SerializeToString()


def configured() -> bytes:
    """Configure's answer: the events that we handle."""
    return nri_pb2.ConfigureResponse(events=EVENT_MASK).SerializeToString()


def synchronized(*, more: bool) -> bytes:
    """Synchronize's answer; ``more`` echoes the request's."""
    return nri_pb2.SynchronizeResponse(more=more).SerializeToString()


EMPTY = b""  # every other answer of ours


def _configure(payload: bytes) -> Configure:
    message = nri_pb2.ConfigureRequest.FromString(payload)
    return Configure(
        message.config,
        message.runtime_name,
        message.runtime_version,
        message.registration_timeout / 1000 if message.registration_timeout > 0 else None,
        message.request_timeout / 1000 if message.request_timeout > 0 else None,
        message.nri_version,
    )


def _synchronize(payload: bytes) -> Synchronize:
    message = nri_pb2.SynchronizeRequest.FromString(payload)
    return Synchronize(tuple(_pod(pod) for pod in message.pods), message.more)


def _pod_event(what: Happening) -> Callable[[bytes], PodEvent]:
    def decoded(payload: bytes) -> PodEvent:
        return PodEvent(what, _named(nri_pb2.PodRequest.FromString(payload).pod))

    return decoded


def _create_container(payload: bytes) -> CreateContainer:
    message = nri_pb2.PodRequest.FromString(payload)
    return CreateContainer(_named(message.pod), message.container.name)


def _state_change(payload: bytes) -> PodEvent | Ignored:
    message = nri_pb2.StateChangeEvent.FromString(payload)
    what = _EVENTS.get(message.event)
    if what is None:
        return Ignored(f"state change {message.event}")
    return PodEvent(what, _named(message.pod))


def _named(pod: nri_pb2.PodSandbox) -> PodSandbox:
    if not pod.id:
        raise Refusal(Code.INVALID_ARGUMENT, "pod.id: is empty")
    return _pod(pod)


def _pod(pod: nri_pb2.PodSandbox) -> PodSandbox:
    paths = [each.path for each in pod.linux.namespaces if each.type == "network"]
    return PodSandbox(
        id=pod.id,
        name=pod.name,
        uid=pod.uid,
        namespace=pod.namespace,
        labels=dict(pod.labels),
        annotations=dict(pod.annotations),
        netns=paths[0] if paths else "",
        pid=pod.pid,
    )


_METHODS: dict[str, Callable[[bytes], Request]] = {
    "Configure": _configure,
    "Synchronize": _synchronize,
    "Shutdown": lambda _: Shutdown(),
    "RunPodSandbox": _pod_event("run"),
    "StopPodSandbox": _pod_event("stop"),
    "RemovePodSandbox": _pod_event("remove"),
    "CreateContainer": _create_container,
    "StateChange": _state_change,
}
