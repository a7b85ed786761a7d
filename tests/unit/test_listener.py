"""The agent's socket: who may connect, and what stands in its place already."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import locks
from cni_netdev.core.errors import LockTimeout, StateError
from cni_netdev.listener import Given, Listener, from_systemd

if TYPE_CHECKING:
    from pathlib import Path


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_it_listens_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "agent.sock"
    before = os.umask(0)
    try:
        listener = Listener(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert connects(path)
    assert listener.is_in_place
    listener.close()
    assert list(path.parent.iterdir()) == []


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    killed = Listener(str(path))
    killed.socket.close()
    assert path.exists()
    assert not connects(path)
    listener = Listener(str(path))
    assert connects(path)
    listener.close()


def test_none_is_taken_from_another_agent(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    listener = Listener(str(path))
    with pytest.raises(StateError, match=r"an agent listens at .* already"):
        Listener(str(path))
    with ExitStack() as stack:  # also when it is too busy to accept
        while True:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)):
                break
        with pytest.raises(StateError, match="already"):
            Listener(str(path))
    assert listener.is_in_place
    listener.close()


def test_of_many_that_start_at_once_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    Listener(str(path)).socket.close()  # stale
    made: list[Listener] = []
    refused: list[StateError] = []

    def start() -> None:
        try:
            made.append(Listener(str(path)))
        except StateError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(made), len(refused)) == (1, 7)
    assert made[0].is_in_place
    made[0].close()
    assert list(tmp_path.iterdir()) == []


def test_another_one_at_work_on_it_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni_netdev.listener._LOCK_SECONDS", 0.0)
    path = tmp_path / "agent.sock"
    held = locks.acquire(f"{path}.lock", 0)
    with pytest.raises(LockTimeout):
        Listener(str(path))
    locks.release(f"{path}.lock", held)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(StateError, match="is there and no socket"):
        Listener(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720, 0o702])
def test_not_where_others_may_put_another(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(StateError, match="others may write it"):
        Listener(str(tmp_path / "agent.sock"))
    assert list(tmp_path.iterdir()) == []


def test_where_there_can_be_none() -> None:
    with pytest.raises(StateError, match="cannot listen at /proc/none/agent"):
        Listener("/proc/none/agent.sock")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(StateError, match=r"cannot listen at .*too long"):
        Listener(str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_another_s_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    first = Listener(str(path))
    path.unlink()
    assert not first.is_in_place
    second = Listener(str(path))
    first.close()
    assert second.is_in_place
    assert connects(path)
    second.close()


# --- systemd ---------------------------------------------------------------------------------


def test_nothing_from_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for pid, count in (("", ""), ("1", "1"), (str(os.getpid()), "")):
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", count)
        assert from_systemd() is None
        assert "LISTEN_PID" not in os.environ


def test_more_than_one_from_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(StateError, match="gave 2 sockets"):
        from_systemd()


def test_one_from_systemd(tmp_path: Path) -> None:
    """In a process of its own, for the number of the descriptor and the environment."""
    path = tmp_path / "agent.sock"
    script = f"""
import os, socket
made = socket.socket(socket.AF_UNIX)
made.bind({str(path)!r})
made.listen()
os.dup2(made.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="x")
from cni_netdev.listener import from_systemd
given = from_systemd()
print(given.socket.getsockname(), os.get_inheritable(3), given.is_in_place)
given.close()
print(os.path.exists({str(path)!r}), [each for each in os.environ if "LISTEN" in each])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{path} False True\nTrue []\n"


def test_what_is_no_socket_to_listen_on(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no socket came"):
        Given(os.open(tmp_path, os.O_RDONLY))
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        made = socket.socket(socket.AF_UNIX, kind)
        with pytest.raises(StateError, match="ListenStream"):
            Given(made.detach())
    with socket.socket(socket.AF_INET) as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        with pytest.raises(StateError, match="ListenStream"):
            Given(os.dup(made.fileno()))
