"""The executable's own part: whom it asks, and what it takes for an answer."""

from __future__ import annotations

import ast
import gc
import json
import os
import posix
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import shim
from cni_netdev.core.journal import AGENT_SOCKET, DEFAULT_DIRECTORY
from cni_netdev.wire import DESCRIPTORS, LONGEST, Incoming, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent.parent
USUAL = f"{DEFAULT_DIRECTORY}/{AGENT_SOCKET}"


# --- whom it asks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "path"),
    [
        ("{}", USUAL),
        ("no JSON", USUAL),
        ('{"stateDir": "/run/cni-netdev"}', USUAL),
        ('{"stateDir":"/run/cni-netdev"}', USUAL),
        ('{"stateDir" :\n"/run/cni-netdev"}', USUAL),
        ('{"stateDir": ""}', USUAL),
        ('{"stateDir": "/run/other"}', "/run/other/agent.sock"),
        ('{"agentSocket": "/run/a.sock"}', "/run/a.sock"),
        ('{"agentSocket": ""}', USUAL),
        ('{"agentSocket": 7}', USUAL),
        ('{"stateDir": "/run/other", "agentSocket": "/run/a.sock"}', "/run/a.sock"),
        # A tenant's words are not the operator's.
        ('{"runtimeConfig": {"x": {"stateDir": "/tmp", "agentSocket": "/tmp/a"}}}', USUAL),
        ('{"x": "\\"agentSocket\\": \\"/tmp/a\\""}', USUAL),
        ('{"stateDir": "/run/cni-netdev", "x": {"stateDir": "/tmp"}}', USUAL),
        ('{"x": {"stateDir": "/run/cni-netdev"}, "stateDir": "/run/b"}', "/run/b/agent.sock"),
    ],
)
def test_the_configuration_says_where(conf: str, path: str) -> None:
    assert shim._place(USUAL, DEFAULT_DIRECTORY, conf.encode()) == path


@pytest.mark.parametrize("conf", ['{"stateDir"', '["stateDir"]', '"agentSocket"', "stateDir"])
def test_what_says_nothing_is_left_to_the_plugin(conf: str) -> None:
    with pytest.raises((ValueError, AttributeError)):
        shim._place(USUAL, DEFAULT_DIRECTORY, conf.encode())


def test_usually_no_json_is_loaded() -> None:
    conf = json.dumps({"stateDir": DEFAULT_DIRECTORY}).encode()
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cni_netdev import shim; "
        f"shim._place('', {DEFAULT_DIRECTORY!r}, {conf!r}); print('json' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# --- what it says, and what it takes for an answer -------------------------------------------


class Server:
    """Something that listens in the agent's place, for one connection."""

    def __init__(self, path: Path, answer: Callable[[Server, socket.socket], object]) -> None:
        self.path = path
        self.heard = b""
        self.descriptors: list[int] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self._answer(self, connection)

    def hear(self, connection: socket.socket) -> Request:
        """The whole request."""
        incoming, request = Incoming("v1"), None
        while request is None:
            data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, DESCRIPTORS)
            self.descriptors += descriptors
            request = incoming.receive(data)
        return request

    def close(self) -> None:
        self._thread.join(20)
        self._listener.close()
        for each in self.descriptors:
            os.close(each)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    found = {b"CNI_COMMAND": b"ADD", b"CNI_ARGS": b"A=1;B=\xff", b"CNI_NETNS": b"/proc/self/ns/uts"}
    monkeypatch.setattr(posix, "environ", {**found, b"PATH": b"/bin"})
    return found


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(answer: Callable[[Server, socket.socket], object]) -> Server:
        made.append(Server(tmp_path / "agent.sock", answer))
        return made[-1]

    yield start
    for each in made:
        each.close()


def ask(server: Server, text: bytes = b"{}") -> tuple[int, bytes, bytes]:
    return shim._ask(str(server.path), "v1", text)


@pytest.mark.parametrize("size", [0, 2, LONGEST])
def test_it_hands_over_all_that_the_plugin_sees(
    environ: dict[bytes, bytes], serve: Callable[..., Server], size: int
) -> None:
    heard: list[Request] = []

    def answer(server: Server, connection: socket.socket) -> None:
        heard.append(server.hear(connection))
        connection.sendall(b"taken\n")
        connection.sendall(b"done 1 3 4\noutevil")

    server = serve(answer)
    assert ask(server, b"x" * size) == (1, b"out", b"evil")
    assert heard == [
        Request({os.fsdecode(a): os.fsdecode(b) for a, b in environ.items()}, b"x" * size)
    ]
    seen = [os.fstat(each).st_ino for each in server.descriptors]
    paths = ("/proc/self/ns/net", "/proc/self/ns/mnt", "/", "/proc/self/ns/uts")
    assert seen == [os.stat(path).st_ino for path in paths]


def test_a_pod_that_is_not_there_is_not_sent(
    environ: dict[bytes, bytes], serve: Callable[..., Server]
) -> None:
    posix.environ[b"CNI_NETNS"] = b"/run/netns/none"
    server = serve(
        lambda server, connection: (server.hear(connection), connection.sendall(b"done 0 0 0\n"))
    )
    assert ask(server) == (0, b"", b"")
    assert len(server.descriptors) == 3
    assert environ


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"no busy\n",
        b"taken\n",
        b"taken\nno busy\n",
        b"done 0 3 0\nou",
        b"done 0 3 0\noute",
        b"done 0 3 0",
        b"done 0 3\nout",
        b"done x 3 0\nout",
        b"took 0 3 0\nout",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff",
    ],
)
def test_what_is_no_answer(environ: Any, serve: Callable[..., Server], said: bytes) -> None:
    server = serve(lambda server, connection: (server.hear(connection), connection.sendall(said)))
    with pytest.raises((OSError, ValueError)):
        ask(server)
    assert environ


def test_who_hangs_up_at_once(environ: Any, serve: Callable[..., Server]) -> None:
    with pytest.raises((OSError, ValueError)):
        ask(serve(lambda *_: None), b"x" * LONGEST)
    assert environ


@pytest.mark.parametrize("said", [b"", b"taken\n"])
def test_who_says_nothing_is_not_waited_for(
    environ: Any, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(shim, "_TAKEN_SECONDS", 0.05)
    monkeypatch.setattr(shim, "_ANSWER_SECONDS", 0.05)
    over = threading.Event()
    server = serve(lambda _, connection: (connection.sendall(said), over.wait(20)))
    with pytest.raises(TimeoutError):
        ask(server)
    over.set()
    assert environ


def test_who_is_not_root_is_told_nothing(
    environ: Any, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    server = serve(lambda _, connection: heard.append(connection.recv(1)))
    monkeypatch.setattr(posix, "geteuid", lambda: 1 << 16)
    with pytest.raises(ValueError, match=r"^$"):
        ask(server)
    gc.collect()  # the shim ends with its process
    server.close()
    assert heard == [b""]
    assert environ


def test_nobody_there(environ: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / ("x" * 120)):
        with pytest.raises(OSError, match=r".*"):
            shim._ask(str(path), "v1", b"")
    assert environ


# --- what it costs ---------------------------------------------------------------------------


def test_it_imports_next_to_nothing() -> None:
    """At its head what the interpreter has loaded anyway; the others when they are needed."""
    tree = ast.parse(Path(shim.__file__).read_text())
    heads = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [alias.name for node in heads for alias in node.names] == ["posix", "sys"]
    everywhere = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert everywhere == {
        *("posix", "sys", "_socket", "json", "gc"),
        *("cni_netdev.core", "cni_netdev.main"),
    }
