from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import libc, netns
from cni_netdev.core.errors import NetnsError

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.host import Host

pytestmark = pytest.mark.kernel


def test_inside_and_back(host: Host) -> None:
    pod = host.pod()
    home = netns.current()
    handle = netns.open_namespace(pod.path)
    with netns.inside(handle.fd):
        assert netns.current().cookie == handle.cookie
    assert netns.current().cookie == home.cookie != handle.cookie
    with pytest.raises(ZeroDivisionError), netns.inside(handle.fd):
        raise ZeroDivisionError
    assert netns.current().cookie == home.cookie


def test_without_a_way_back_the_process_ends(host: Host) -> None:
    """Its next request would change the pod instead of the host."""
    handle = netns.open_namespace(host.pod().path)
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        libc.setns = _only_once(libc.setns)  # type: ignore[assignment]
        with netns.inside(handle.fd):
            pass
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70


def test_the_way_back_is_tried_again(host: Host, mocker: MockerFixture) -> None:
    """setns(2) needs memory, of which there may be enough in the next moment."""
    handle = netns.open_namespace(host.pod().path)
    home, real = netns.current().cookie, libc.setns
    refused = OSError(errno.ENOMEM, "Cannot allocate memory")
    answers = iter([None, refused, refused, None])

    def setns(fd: int, kind: int) -> None:
        if error := next(answers):
            raise error
        real(fd, kind)

    mocker.patch.object(libc, "setns", setns)
    with netns.inside(handle.fd):
        pass
    assert netns.current().cookie == home


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EPERM, errno.EACCES])
@pytest.mark.parametrize("function", ["os.open", "fcntl.ioctl", "cni_netdev.core.libc.setns"])
def test_what_cannot_be_looked_at_is_not_gone(
    host: Host, mocker: MockerFixture, function: str, code: int
) -> None:
    path = host.pod().path
    assert netns.cookie_at(path)
    before = len(os.listdir("/proc/self/fd"))
    mocker.patch(function, side_effect=OSError(code, os.strerror(code)))
    with pytest.raises(NetnsError, match=os.strerror(code)) as caught:
        netns.cookie_at(path)
    assert "is no network namespace" not in caught.value.message
    mocker.stopall()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["/run/none", "/run", "/etc/passwd/x", "/proc/self/ns/mnt"])
def test_where_there_is_none_it_is_gone(host: Host, path: str) -> None:
    assert host
    assert netns.cookie_at(path) == 0


def _only_once(real: object) -> object:
    calls: list[int] = []

    def setns(fd: int, kind: int) -> None:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(1, "refused")
        real(fd, kind)  # type: ignore[operator]

    return setns


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/run/none", "cannot be opened: No such file"),
        ("/run", "no network namespace"),
        ("/run/file", "no network namespace"),
        ("/run/fifo", "no network namespace"),
        ("/proc/self/ns/mnt", "another type"),
        ("/run/a\0b", "cannot be opened"),
    ],
)
def test_what_is_no_namespace(host: Host, path: str, said: str) -> None:
    assert host
    Path("/run/file").write_text("")
    os.mkfifo("/run/fifo")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NetnsError, match=said):
        netns.open_namespace(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_cookie_is_never_used_again(host: Host) -> None:
    seen = set()
    for _ in range(3):
        pod = host.pod()
        handle = netns.open_namespace(pod.path)
        seen.add(handle.cookie)
        handle.close()
        pod.delete()
    assert len(seen) == 3


def test_only_the_first_namespace_is_the_initial_one(host: Host) -> None:
    initial = os.open("/proc/2/ns/net", os.O_RDONLY)
    pod = netns.open_namespace(host.pod().path)
    assert netns.is_initial(initial)
    assert not netns.is_initial(pod.fd)
    assert not netns.is_initial(netns.current().fd)
    assert netns.sees_the_kernels_threads()
