"""The real containerd on a test's host: its tree lives in the test's own namespaces.

Everything of it is in the host's own tmpfs (/var/lib, /run) or in the test's directory; pods are in
a cgroup of the test's own.  Leaving the block kills what is left and takes that cgroup away.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests import cgroups, image
from tests.host import PEERS, run
from tests.lines import Ended, Lines
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from tests.host import Host

SOCKET = "/run/containerd/containerd.sock"
_CONFIG = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{image}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{bin_dir}]
    conf_dir = {conf_dir}
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = {runc}

[plugins."io.containerd.nri.v1.nri"]
  socket_path = {nri_socket}
  plugin_path = {plugin_dir}
  plugin_config_path = {config_dir}
  plugin_registration_timeout = "{registration_timeout}"
  plugin_request_timeout = "{request_timeout}"
  [plugins."io.containerd.nri.v1.nri".default_validator]
    enable = {validates}
    required_plugins = {required}
"""
# CRI sets CPU shares on every sandbox.  Version 2 of cgroups takes them only where its controllers
# can be had: not beside version 1, and not in a container whose root cgroup has processes.
_UNLIMITED_RUNC = """\
#!{python} -IS
import json, os, sys
arguments = sys.argv[1:]
if "create" in arguments:
    path = arguments[arguments.index("--bundle") + 1] + "/config.json"
    with open(path) as file:
        spec = json.load(file)
    spec["linux"].pop("resources", None)
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv("{runc}", ["runc", *arguments])
"""


class RuntimeRefused(Exception):
    """CRI answered with an error: its message, and the name of the gRPC code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Output(NamedTuple):
    """What a command in a container said."""

    code: int
    stdout: str
    stderr: str


class Containerd:
    """containerd with NRI and the host's CNI plugins, while the block lasts.

    One at a time, inside ``Host.enter``.  Conflists are best written before; for later ones there
    is ``wait_for_conflist``.  Timeouts are those of NRI, as Go writes durations.
    """

    nri_socket = "/run/nri/nri.sock"

    def __init__(
        self,
        host: Host,
        *,
        required_plugins: Sequence[str] = (),
        registration_timeout: str = "5s",
        request_timeout: str = "2s",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self.nri_plugin_dir = host.directory / "nri" / "plugins"
        self.nri_config_dir = host.directory / "nri" / "conf.d"
        self.log_file = host.directory / "containerd.log"
        self.cgroup = f"cni-netdev-test-{os.getpid()}"
        self._config = host.directory / "containerd.toml"
        self._env = {"PATH": f"{PEERS}:{os.environ['PATH']}", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._cri: Lines | None = None
        self._pods: dict[str, dict[str, Any]] = {}
        self._imported = False
        for directory in (self.nri_plugin_dir, self.nri_config_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self._configure(required_plugins, registration_timeout, request_timeout)

    def _configure(
        self, required: Sequence[str], registration_timeout: str, request_timeout: str
    ) -> None:
        text = _CONFIG.format(
            runc=json.dumps(str(self._runc())),
            socket=SOCKET,
            image=image.NAME,
            bin_dir=json.dumps(str(self.host.bin_dir)),
            conf_dir=json.dumps(str(self.host.conf_dir)),
            nri_socket=json.dumps(self.nri_socket),
            plugin_dir=json.dumps(str(self.nri_plugin_dir)),
            config_dir=json.dumps(str(self.nri_config_dir)),
            registration_timeout=registration_timeout,
            request_timeout=request_timeout,
            validates=json.dumps(bool(required)),
            required=json.dumps(list(required)),
        )
        self._config.write_text(text)

    def _runc(self) -> Path:
        if not cgroups.unified():
            return PEERS / "runc"
        script = self.host.directory / "runc"
        script.write_text(_UNLIMITED_RUNC.format(python=sys.executable, runc=PEERS / "runc"))
        script.chmod(0o755)
        return script

    def __enter__(self) -> Self:
        assert (PEERS / "containerd").exists(), "containerd is not built: run `make setup`"
        cgroups.mount()
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.log)
        try:
            if self._process is not None:
                self._remove_pods()
        finally:
            self._clean_up()

    # --- containerd itself -------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None, "containerd is not running"
        return self._process.pid

    @property
    def client_pid(self) -> int:
        """Of the program that asks it."""
        assert self._cri is not None, "containerd is not running"
        return self._cri.process.pid

    @property
    def log(self) -> str:
        """What containerd has written, over all of its starts."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def start(self) -> None:
        """Start it; ready when this returns, with the conflist loaded if there is one."""
        assert self._process is None, "containerd runs already"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PEERS / "containerd"), "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )
        self._cri = Lines([str(PEERS / "cri"), SOCKET, "serve"], self.host.directory / "cri.log")
        self._until_ready()
        self._import_image()
        self.wait_for_conflist()

    def kill(self) -> None:
        """SIGKILL for containerd only: shims and pods live on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM for containerd only: shims and pods live on."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait_for_conflist(self) -> None:
        """Return when containerd has loaded the first conflist there is, as it is now."""
        written = [path.read_text() for path in sorted(self.host.conf_dir.glob("*.conflist"))[:1]]
        until(lambda: set(written) <= self._conflists(), lambda: self.log, seconds=30)

    def _conflists(self) -> set[str]:
        loaded = self.ask("status")["info"].get("cniconfig") or {}
        return {each["Config"]["Source"] for each in loaded.get("Networks") or []}

    def _until_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"containerd ended: {self.log}"
            try:
                self.ask("version", timeout=20)
            except RuntimeRefused:
                return False
            return True

        until(ready, lambda: self.log, seconds=30)

    def _import_image(self) -> None:
        if not self._imported:
            archive = self.host.directory / "image.tar"
            image.write(archive)
            ctr = (str(PEERS / "ctr"), "--address", SOCKET, "--namespace", "k8s.io")
            run(*ctr, "images", "import", str(archive))
            self._imported = True
        until(lambda: self.ask("image", image=image.NAME)["id"] != "", lambda: self.log, seconds=30)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "containerd is not running"
        assert self._cri is not None
        self._process.send_signal(number)
        self._process.wait()
        self._process = None
        self._cri.close()
        self._cri = None

    # --- pods --------------------------------------------------------------------------------

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:
        """One request of tests/peers/cri; ``ms`` in the answer is the wall time of the RPC.

        Raises RuntimeRefused, and Ended when containerd is not running.
        """
        client = self._cri  # another thread may kill it meanwhile
        if client is None:
            raise Ended("containerd is not running")
        answer = client.ask(150, verb=verb, **request)
        if "error" in answer:
            raise RuntimeRefused(answer["error"], answer["code"])
        return answer

    def send(self, verb: str, **request: Any) -> None:
        """Ask without ever looking at the answer."""
        assert self._cri is not None, "containerd is not running"
        self._cri.send(verb=verb, **request)

    def pod_config(
        self,
        name: str,
        annotations: Mapping[str, str] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        namespace: str = "default",
        host_network: bool = False,
    ) -> dict[str, Any]:
        """What ``ask("run-pod")`` takes."""
        return {
            "name": name,
            "uid": f"uid-{name}",
            "namespace": namespace,
            "annotations": dict(annotations or {}),
            "labels": dict(labels or {}),
            "hostNetwork": host_network,
            "cgroupParent": f"/{self.cgroup}",
        }

    def run_pod(self, name: str, annotations: Mapping[str, str] | None = None, **more: Any) -> str:
        """Run a sandbox, with the arguments of ``pod_config``; gives its id."""
        config = self.pod_config(name, annotations, **more)
        pod = str(self.ask("run-pod", **config)["id"])
        self._pods[pod] = config
        return pod

    def stop_pod(self, pod: str) -> None:
        self.ask("stop-pod", id=pod)

    def remove_pod(self, pod: str) -> None:
        self.ask("remove-pod", id=pod)

    def pods(self) -> dict[str, str]:
        """All sandboxes: ready or notready by id."""
        listed = self.ask("pods")["pods"]
        return {each["id"]: each["state"].removeprefix("SANDBOX_").lower() for each in listed}

    def netns(self, pod: str) -> str:
        """The path of a pod's network namespace; empty for the host's."""
        spec = self.ask("inspect-pod", id=pod)["info"]["info"]["runtimeSpec"]
        paths = [
            each.get("path", "")
            for each in spec["linux"]["namespaces"]
            if each["type"] == "network"
        ]
        return paths[0] if paths else ""

    def create(self, pod: str, name: str, command: Sequence[str] = image.PAUSE) -> str:
        """Create and start a container in a pod that ``run_pod`` made; gives its id."""
        made = self.ask(
            "create",
            pod=pod,
            config=self._pods[pod],
            name=name,
            image=image.NAME,
            command=list(command),
        )
        self.ask("start", id=made["id"])
        return str(made["id"])

    def execute(self, container: str, *command: str) -> Output:
        """Run a command in a container to its end."""
        got = self.ask("exec", container=container, command=list(command))
        return Output(got.get("exitCode", 0), got["stdout"], got["stderr"])

    def exec(self, container: str, *command: str) -> str:
        """The output of a command that must succeed in a container."""
        done = self.execute(container, *command)
        assert done.code == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    # --- the end -----------------------------------------------------------------------------

    def _remove_pods(self) -> None:
        with suppress(RuntimeRefused, Ended, TimeoutError):
            for pod in self.pods():
                with suppress(RuntimeRefused):
                    self.ask("stop-pod", id=pod, timeout=20)
                    self.ask("remove-pod", id=pod, timeout=20)

    def _clean_up(self) -> None:
        if self._process is not None:
            self.kill()
        for pid in self._started():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cgroups.remove(self.cgroup)
        until(lambda: not list(self._started()), lambda: self.log, seconds=30)
        _unmount_all("/run/containerd", "/var/lib/containerd", "/run/netns")
        cgroups.unmount()

    def _started(self) -> Iterator[int]:
        """Shims and launched plugins."""
        for pid, command in _neighbours():
            if "containerd-shim" in command or str(self.nri_plugin_dir) in command:
                yield pid


def _neighbours() -> Iterator[tuple[int, str]]:
    """Pid and command line of the processes in our mount namespace."""
    ours = os.readlink("/proc/thread-self/ns/mnt")
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            with suppress(OSError):
                if os.readlink(each / "ns" / "mnt") == ours:
                    yield int(each.name), (each / "cmdline").read_text(errors="replace")


def _unmount_all(*tops: str) -> None:
    """Unmount all that is mounted below, last first."""
    for line in reversed(Path("/proc/thread-self/mounts").read_text().splitlines()):
        target = line.split(" ")[1]
        if any(target.startswith(f"{top}/") for top in tops):
            run("umount", "--lazy", target)
