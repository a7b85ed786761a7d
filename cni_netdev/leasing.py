"""The network's IPAM plugin as core.ports.Leases, and CHECK, GC and STATUS passed on to it.

It is called for each device under a CNI_IFNAME of the device's own, its name in the pod: plugins
keep leases by container id and CNI_IFNAME, so that those of several devices, and that of the main
interface, do not meet.  All else it gets as we got it.
"""

from __future__ import annotations

from cni_netdev import delegate
from cni_netdev.core.errors import LeaseRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.quickjson import dumps, loads
from cni_netdev.ipam import configuration, failure, granted, with_valid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_netdev.core.model import Granted, Record
    from cni_netdev.request import Request

# These ask the network itself, through the link.
_ASK_THROUGH_THE_LINK = frozenset(("dhcp",))


class Leasing:
    """Of one call of ours."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.ipam = dumps(request.config.ipam) if request.config.ipam else ""

    @property
    def needs_the_link(self) -> bool:
        return _type(self.ipam) in _ASK_THROUGH_THE_LINK

    def lease(self, ifname: str) -> Granted:
        """The same name must not be asked for twice without a release in between."""
        answer = self._call("ADD", self.ipam, CNI_IFNAME=ifname)
        try:
            return granted(answer, ifname, self._request.version)
        except LeaseRefused as error:
            raise _said_by(self.ipam, ifname, error) from None

    def release(self, record: Record) -> dict[str, str]:
        """The record may be another attachment's than the call is of, as in a GC."""
        names = tuple(each.ifname for each in record.leases)
        return self._each("DEL", record.ipam, names, CNI_CONTAINERID=record.owner.sandbox)

    def release_by_name(self, ifnames: tuple[str, ...]) -> tuple[str, ...]:
        """Without a record; what went wrong."""
        return tuple(self._each("DEL", self.ipam, ifnames).values())

    def check(self, ipam: str, ifnames: tuple[str, ...]) -> tuple[str, ...]:
        """What went wrong.  ipam: of the record."""
        return tuple(self._each("CHECK", ipam, ifnames).values())

    def collect(self, leased: Iterable[tuple[str, str]]) -> None:
        """GC.  leased: (container id, name) of what stands besides.  Raises LeaseRefused."""
        self._run("GC", self.ipam, with_valid(self._request.stdin, leased), {})

    def status(self) -> None:
        """Raises LeaseRefused."""
        self._call("STATUS", self.ipam)

    def _each(
        self, verb: str, ipam: str, ifnames: tuple[str, ...], **environ: str
    ) -> dict[str, str]:
        """What went wrong, by name; the others come all the same."""
        troubles = {}
        for ifname in ifnames:
            try:
                self._call(verb, ipam, CNI_IFNAME=ifname, **environ)
            except LeaseRefused as error:
                troubles[ifname] = error.message
        return troubles

    def _call(self, verb: str, of: str, **environ: str) -> bytes:
        return self._run(verb, of, configuration(self._request.stdin, of), environ)

    def _run(self, verb: str, of: str, stdin: bytes, own: dict[str, str]) -> bytes:
        """Its standard output.  own: what is not of our environment.  Raises LeaseRefused."""
        environ = {**self._request.environ, "CNI_COMMAND": verb, **own}
        ifname = own.get("CNI_IFNAME")
        try:
            program = delegate.find(_type(of), environ.get("CNI_PATH", ""))
            status, answer = delegate.run(program, environ, stdin)
        except LeaseRefused as error:
            raise _said_by(of, ifname, error) from None
        if status:
            code, message = failure(answer, status)
            message += f" (code {code})" if code else ""
            raise _said_by(of, ifname, LeaseRefused(f"{verb}: {message}"))
        return answer


def _type(ipam: str) -> str:
    """Of a configuration; no path, which request sees to, and records are root's."""
    return str(loads(ipam)["type"])


def _said_by(ipam: str, ifname: str | None, error: LeaseRefused) -> LeaseRefused:
    where = f" for {ifname}" if ifname is not None else ""
    return LeaseRefused(f"ipam {_type(ipam)}{where}: {error.message}", error.details)
