"""What sysfs tells of links: the inode that identifies one, its bus, driver and what is on top.

A detached mount made inside a namespace shows that namespace's links from anywhere
(fsopen(2), fsmount(2)), whatever is mounted at /sys.
"""

from __future__ import annotations

import errno
import os
import stat

from cni_netdev.core import libc
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack, NamedTuple, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

_UPPER = "upper_"
_TRIES = 200
_NETWORK_CLASS = "0x02"  # linux/pci_ids.h, PCI_BASE_CLASS_NETWORK
# What a look answers when there is nothing, nothing any more, or no symbolic link.
_ABSENT = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENODEV,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EOPNOTSUPP,
    )
)


class SysView(NamedTuple):
    """A sysfs tree by a descriptor of its root; whoever has it closes it."""

    root: int

    @classmethod
    def of_current_namespace(cls) -> SysView:
        """The tree as the calling thread's namespace sees it.  Raises KernelRefused."""
        try:
            return cls(libc.detached_mount("sysfs"))
        except OSError as error:
            refused = KernelRefused("mount the sysfs of a namespace", error.errno or 0)
            raise refused.with_details("this needs CAP_SYS_ADMIN and Linux 5.2 or later") from error

    @classmethod
    def of_directory(cls, path: str) -> SysView:
        """A tree at a path."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def close(self) -> None:
        os.close(self.root)

    def identity(self, name: str) -> tuple[int, int] | None:
        """(inode, ifindex) of the link with this name now; None when it has none now.

        Both through one descriptor, so that they are one link's, however fast a pod renames. The
        inode is kept over moves and renames, and never that of another link.
        """
        with _absence(f"class/net/{name}"), ExitStack() as opened:
            fd = os.open(f"class/net/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.root)
            opened.callback(os.close, fd)
            number = os.open("ifindex", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
            opened.callback(os.close, number)
            text = os.read(number, 16)
            return (os.fstat(fd).st_ino, int(text)) if text else None
        return None

    def by_inode(self, inode: int) -> int | None:
        """The ifindex of the link with this inode, by looking at every one; None: not here.

        Raises KernelRefused when links kept being renamed, so that none may be called absent.
        """
        for _ in range(_TRIES):
            found = {each: self.identity(each) for each in self._list("class/net")}
            for seen in found.values():
                if seen is not None and seen[0] == inode:
                    return seen[1]
            if all(seen or self._is_no_link(each) for each, seen in found.items()):
                return None
        raise KernelRefused("look at links that are renamed all the time", errno.EAGAIN)

    def _is_no_link(self, name: str) -> bool:
        """Whether it is a file among the links, as bonding_masters is."""
        path = f"class/net/{name}"
        with _absence(path):
            return stat.S_ISREG(os.stat(path, dir_fd=self.root, follow_symlinks=False).st_mode)
        return False

    def bus(self, name: str) -> str | None:
        """The nearest PCI address above the link, else its device's own name; None if virtual."""
        target = self._link(f"class/net/{name}/device")
        if target is None:
            return None
        from cni_netdev.core.values import is_pci  # most links have no device

        place = self._link(f"class/net/{name}") or ""
        pci = [part for part in place.split("/") if is_pci(part)]
        return pci[-1] if pci else target.rpartition("/")[2]

    def driver(self, name: str) -> str | None:
        return self._basename(f"class/net/{name}/device/driver")

    def phy(self, name: str) -> tuple[int, str, tuple[str, ...]] | None:
        """(number, name, its other links) of the phy of a Wi-Fi link; None for any other link."""
        number = self._text(f"class/net/{name}/phy80211/index")
        if not number:
            return None
        every = self._on_phy(f"class/net/{name}/device", number)
        mates = tuple(each for each in every if each != name)
        return int(number), self._text(f"class/net/{name}/phy80211/name"), mates

    def wlans(self, phy: int) -> tuple[str, ...] | None:
        """The links on the phy of this number; None when the namespace does not see it."""
        for each in self._list("class/ieee80211"):
            if self._text(f"class/ieee80211/{each}/index") == str(phy):
                return self._on_phy(f"class/ieee80211/{each}/device", str(phy))
        return None

    def _on_phy(self, device: str, number: str) -> tuple[str, ...]:
        """Of a device's links; one device may have many phys."""
        names = self._list(f"{device}/net")
        phys = {each: self._text(f"class/net/{each}/phy80211/index") for each in names}
        return tuple(each for each, phy in phys.items() if phy == number)

    def rdma_devices(self) -> list[str]:
        """The names of all that the namespace sees; the cheapest look."""
        return self._list("class/infiniband")

    def rdma(self, name: str) -> tuple[tuple[str, bool], ...]:
        """(name, made in software) of the RDMA devices that may be over the link."""
        every = self.rdma_devices()
        if not every:
            return ()
        hardware = self._list(f"class/net/{name}/device/infiniband")
        virtual = "/devices/virtual/"
        soft = [each for each in every if virtual in (self._link(f"class/infiniband/{each}") or "")]
        return (*((each, False) for each in hardware), *((each, True) for each in soft))

    def has_bus(self, address: str) -> bool:
        return any(self._link(f"bus/{kind}/devices/{address}") for kind in self._list("bus"))

    def driver_of_bus(self, address: str) -> str | None:
        return self._basename(f"bus/pci/devices/{address}/driver")

    def network_function(self, address: str) -> int:
        """The inode of a PCI device's directory if it is a network controller, else 0."""
        path = f"bus/pci/devices/{address}"
        if not self._text(f"{path}/class").startswith(_NETWORK_CLASS):
            return 0
        with _absence(path):
            return os.stat(path, dir_fd=self.root).st_ino
        return 0

    def physical_function(self, address: str) -> tuple[str, int] | None:
        """The PCI address of a VF's physical function and its number there; None: it is no VF."""
        pf = self._basename(f"bus/pci/devices/{address}/physfn")
        for each in self._list(f"bus/pci/devices/{pf}") if pf else ():
            number = each.removeprefix("virtfn")
            is_number = number != each and number.isdecimal()
            if is_number and self._basename(f"bus/pci/devices/{pf}/{each}") == address:
                return (pf or "", int(number))
        return None

    def port(self, name: str) -> str:
        """Which port of its device a link is (``p0``, of a representor ``pf0vf1``), or ""."""
        return self._text(f"class/net/{name}/phys_port_name")

    def uppers(self, name: str) -> tuple[str, ...]:
        """The links on top of it in the same namespace, its master included."""
        entries = self._list(f"class/net/{name}")
        return tuple(each.removeprefix(_UPPER) for each in entries if each.startswith(_UPPER))

    def by_bus(self, address: str) -> tuple[str, ...]:
        """The links of a PCI device, directly or below a virtio device on it."""
        device = f"bus/pci/devices/{address}"
        names = self._list(f"{device}/net")
        for entry in self._list(device):
            if entry.startswith("virtio"):
                names += self._list(f"{device}/{entry}/net")
        return tuple(names)

    def by_kernel_path(self, path: str) -> tuple[str, ...]:
        """The links in a directory under /sys/devices, or the one that it is itself.

        Symbolic links are followed inside the tree only; what ends outside of devices/ holds none.
        """
        place = self._device(path)
        if place is None:
            return ()
        if "ifindex" in self._list(place) and "/net/" in place:
            return (place.rpartition("/")[2],)
        names = self._device(f"{place}/net")
        return tuple(self._list(names)) if names else ()

    def _device(self, path: str) -> str | None:
        """What the path leads to, without links in it; None when that is not in devices/."""
        place = self._resolve(path)
        return place if place and place.startswith("devices/") else None

    def _resolve(self, path: str) -> str | None:
        parts = path.removeprefix("/sys").strip("/").split("/")
        done: list[str] = []
        for _ in range(256):
            if not parts:
                return "/".join(done)
            part = parts.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done[-1:] = []
                continue
            target = self._link("/".join([*done, part]))
            if target is None:
                done.append(part)
            else:
                parts = target.split("/") + parts
                done = [] if target.startswith("/") else done
        return None

    def _link(self, path: str) -> str | None:
        with _absence(path):
            return os.readlink(path, dir_fd=self.root)
        return None

    def _text(self, path: str) -> str:
        """Of a small file, without the end of its line; empty when there is none."""
        with _absence(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.root)
            try:
                return os.read(fd, 256).decode(errors="surrogateescape").rstrip("\n")
            finally:
                os.close(fd)
        return ""

    def _basename(self, path: str) -> str | None:
        target = self._link(path)
        return target.rpartition("/")[2] if target else None

    def _list(self, path: str) -> list[str]:
        with _absence(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        return []


@contextmanager
def _absence(path: str) -> Iterator[None]:
    """The block ends where something is not there; KernelRefused when that cannot be told."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ABSENT:
            raise KernelRefused(f"look at /sys/{path}", error.errno or 0) from error
