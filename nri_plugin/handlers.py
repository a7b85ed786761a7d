"""What is done at each event of a pod, over the injection core.

All of it runs on one worker thread: the kernel does one move at a time anyway.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cni_netdev.core.annotations import find_annotation
from cni_netdev.core.errors import CannotApply, NetdevError, StateError
from nri_plugin import pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.engine import Attachment
    from cni_netdev.core.model import DeviceRequest, Owner, Record
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Key
    from cni_netdev.core.restore import Release
    from nri_plugin.limits import Limit
    from nri_plugin.messages import PodSandbox
    from nri_plugin.metrics import Metrics

    class Engine(Protocol):
        """What the handlers need of core.engine.Injector."""

        def attach(
            self,
            owner: Owner,
            netns_path: str,
            requests: tuple[DeviceRequest, ...],
            policy: Policy,
            pod: Pod,
            in_time: Callable[[], None],
        ) -> Attachment: ...
        def adopt(
            self,
            owner: Owner,
            netns_path: str,
            requests: tuple[DeviceRequest, ...],
            policy: Policy,
            pod: Pod,
        ) -> Attachment | None: ...
        def has(self, key: Key) -> bool: ...
        def detach(self, key: Key) -> Release | None: ...
        def recoveries(self, ended: frozenset[str]) -> Iterator[Release]: ...
        def repin(self, front: str) -> tuple[str, ...]: ...
        def sandboxes(self, front: str) -> frozenset[str]: ...
        def missing(self, sandbox: str, requests: tuple[DeviceRequest, ...]) -> tuple[str, ...]: ...
        def held(self) -> int: ...
        def unreadable(self) -> tuple[str, ...]: ...

    class Log(Protocol):
        """Lines with fields."""

        def debug(self, message: str, **fields: Any) -> None: ...
        def info(self, message: str, **fields: Any) -> None: ...
        def warn(self, message: str, **fields: Any) -> None: ...
        def error(self, message: str, **fields: Any) -> None: ...


# Seconds that one look at the records may keep pods waiting, give or take one release.
_SHARE = 0.1


class Settings(NamedTuple):
    """policy: read anew for each pod, so that an edited file counts at once; may raise
    RequestError.  adopt: take over what the Go injector lent.
    """

    policy: Callable[[], Policy]
    adopt: bool = False


class Handlers:
    """The plugin's deeds."""

    def __init__(self, engine: Engine, settings: Settings, log: Log, metrics: Metrics) -> None:
        self._engine = engine
        self._settings = settings
        self._log = log
        self._metrics = metrics
        self._ended: frozenset[str] = frozenset()
        self._round: Iterator[Release] | None = None
        self._stuck: dict[Key, Release] = {}
        self._stuck_again: dict[Key, Release] = {}

    # --- whether there is anything to do; quick, and safe from any thread ----------------------

    def asks(self, pod: PodSandbox) -> bool:
        """Whether the pod has an annotation of ours."""
        return find_annotation(pod.annotations) is not None

    def holds(self, pod: PodSandbox) -> bool:
        """Whether there is a record of the pod; yes when that cannot be told."""
        try:
            return self._engine.has(pods.key(pod))
        except NetdevError:
            return True  # whatever is to be done then says why it cannot be

    # --- a pod starts ------------------------------------------------------------------------

    def run(self, pod: PodSandbox, limit: Limit) -> None:
        """Attach what the pod asks for.  Raises NetdevError; then nothing is attached."""
        start = time.monotonic()
        try:
            record = self._attach(pod, limit)
        except Exception as error:
            self._metrics.attached(type(error).__name__, time.monotonic() - start)
            details = getattr(error, "details", "")
            self._log.error("not attached", **_who(pod), error=error, details=details)
            raise
        if record is None:
            return
        taken = time.monotonic() - start
        self._metrics.attached("ok", taken)
        self._count_lent()
        names = [f"{each.home.link.name} as {each.expected.name}" for each in record.devices]
        self._log.info("attached", **_who(pod), devices=names, ms=_ms(taken))

    def _attach(self, pod: PodSandbox, limit: Limit) -> Record | None:
        wanted = pods.requests(pod)
        if not wanted:
            return None
        pods.refuse_host_network(pod)
        limit.check()
        attachment = self._engine.attach(
            pods.owner(pod),
            pod.netns,
            wanted,
            self._settings.policy(),
            pods.for_policy(pod),
            limit.check,
        )
        for note in attachment.notes:
            self._log.warn(note, **_who(pod))
        if not limit.finish():
            if attachment.made:  # else it is another call's, which may have been answered
                self._log.warn("attached too late; taken back", **_who(pod))
                self.release(pod)
            raise limit.error()
        return attachment.record

    def create(self, pod: PodSandbox, container: str) -> None:
        """Raises CannotApply for a container in a pod that lacks a device it asked for."""
        wanted = pods.requests(pod)
        missing = self._engine.missing(pod.id, wanted) if wanted else ()
        if missing:
            error = CannotApply(
                f"pod {pod.namespace}/{pod.name} asks for {', '.join(missing)}, "
                f"which it was not given: container {container!r} must not run without",
                "delete the pod, so that it is started anew",
            )
            self._log.error("container refused", **_who(pod), container=container, error=error)
            raise error

    # --- a pod ends --------------------------------------------------------------------------

    def release(self, pod: PodSandbox) -> None:
        """Bring home what the pod holds.  Never fails: what stays away is tried again."""
        start = time.monotonic()
        try:
            release = self._engine.detach(pods.key(pod))
            if release is not None:
                self._tell(release, time.monotonic() - start, _who(pod))
        except Exception as error:  # noqa: BLE001 - an error would keep other plugins from the event
            self._metrics.detached(type(error).__name__, time.monotonic() - start)
            self._log.error("not detached, to be tried again", **_who(pod), error=error)

    # --- looking after it --------------------------------------------------------------------

    def synchronize(self, known: tuple[PodSandbox, ...]) -> None:
        """Reconcile the records with the pods that the runtime knows.

        Pods that are being created are not among them, so a record without its pod is released
        only when the pod's namespace is gone too.
        """
        self._round, self._ended = None, self._missing_from({pod.id for pod in known})
        self.look_after()
        self._tell_unreadable()
        self._repin()
        running = [pod for pod in known if pod.netns]
        if self._settings.adopt:
            for pod in running:
                self._adopt(pod)
        without = [pod for pod in running if self._lacks(pod)]
        self._metrics.without_device(len(without))

    def look_after(self) -> bool:
        """Bring home what dead pods hold; called now and then, and when a link came or went.

        True when its share of time was used up before the end: call it again, after whatever
        waits meanwhile.
        """
        until = time.monotonic() + _SHARE
        try:
            self._round = self._round or self._engine.recoveries(self._ended)
            start = time.monotonic()
            for release in self._round:
                self._recovered(release, time.monotonic() - start)
                start = time.monotonic()
                if start > until:
                    return True
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._log.error("cannot look after the records", error=error)
            if isinstance(error, StateError):
                self._repin()  # the directory may have been taken away, pins and all
        self._round = None
        self._stuck, self._stuck_again = self._stuck_again, {}
        self._count_lent()
        self._log.debug("looked after the records")
        return False

    def _recovered(self, release: Release, seconds: float) -> None:
        """Told once, not at every look."""
        key = release.owner.key
        if not release.complete:
            self._stuck_again[key] = release
        if self._stuck.get(key) != release:
            self._tell(release, seconds, {"sandbox": release.owner.sandbox})

    def _missing_from(self, known: set[str]) -> frozenset[str]:
        """Those of our sandboxes that the runtime does not know."""
        try:
            return self._engine.sandboxes("nri") - known
        except Exception as error:  # noqa: BLE001 - then only the kernel is asked
            self._log.error("the records cannot be read", error=error)
            return frozenset()

    def _tell_unreadable(self) -> None:
        """A device that is away may be in such a record, and in no other."""
        try:
            for each in self._engine.unreadable():
                self._log.error(each)
        except NetdevError as error:
            self._log.error("the records cannot be read", error=error)

    def _repin(self) -> None:
        try:
            notes = self._engine.repin("nri")
        except NetdevError as error:
            notes = (error.message,)
        for note in notes:
            self._log.warn(note)

    def _adopt(self, pod: PodSandbox) -> None:
        try:
            wanted = pods.requests(pod)
            attachment = wanted and self._engine.adopt(
                pods.owner(pod),
                pod.netns,
                wanted,
                self._settings.policy(),
                pods.for_policy(pod),
            )
        except NetdevError as error:
            self._log.warn("not adopted", **_who(pod), error=error)
            return
        if not attachment:
            return
        for note in attachment.notes:
            self._log.warn("not adopted", **_who(pod), error=note)
        names = [each.home.link.name for each in attachment.record.devices]
        if names:
            self._log.info("adopted from the Go injector", **_who(pod), devices=names)

    def _lacks(self, pod: PodSandbox) -> bool:
        try:
            wanted = pods.requests(pod)
            missing = self._engine.missing(pod.id, wanted) if wanted else ()
        except NetdevError as error:
            missing = (error.message,)
        if missing:
            self._log.warn("a running pod lacks what it asked for", **_who(pod), devices=missing)
        return bool(missing)

    def _count_lent(self) -> None:
        """Never raises: what was done is done, counted or not."""
        try:
            self._metrics.lent(self._engine.held())
        except Exception as error:  # noqa: BLE001 - see above
            self._log.warn("the records cannot be counted", error=error)

    def _tell(self, release: Release, seconds: float, who: dict[str, Any]) -> None:
        namespace, _, name = release.owner.pod.rpartition("/")
        who = {"pod": name, "namespace": namespace, **who}
        if release.devices or not release.complete:
            self._metrics.detached("ok" if release.complete else "incomplete", seconds)
            self._metrics.fell_back(release.fell_back)
            self._count_lent()
            tell = self._log.info if release.complete else self._log.warn
            what = "detached" if release.complete else "something is still away, to be tried again"
            tell(what, **who, devices=release.devices, ms=_ms(seconds))
        self._metrics.lost(release.lost)
        for note in release.notes:
            self._log.warn(note, **who)


def _who(pod: PodSandbox) -> dict[str, Any]:
    return {"pod": pod.name, "namespace": pod.namespace, "sandbox": pod.id}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
