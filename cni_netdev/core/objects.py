"""One decoded object, its keys read one by one, so that every fault is found; pure."""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Object:
    """What is wrong with it goes to ``faults``, in the order in which it is asked for."""

    def __init__(self, value: object, where: str, faults: list[Fault]) -> None:
        """where: its path, put before those of its keys; may be empty."""
        self.where = where
        self.faults = faults
        self._value: dict[str, object] = {}
        self.readable = isinstance(value, dict)
        if isinstance(value, dict):
            self._value = value
        else:
            faults.append(Fault(where, f"must be an object, not {values.shown(value)}"))

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self._value:
            if key not in known:
                self.fault(
                    f".{values.shown(str(key))[1:-1]}",
                    f"unknown key{values.nearest(str(key), known)}",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Its keys, as they are given."""
        return tuple(map(str, self._value))

    def fault(self, path: str, message: str) -> None:
        """path: below this object, as ``.mtu`` or ``[0]``; empty for the object itself."""
        self.faults.append(Fault((self.where + path).removeprefix("."), message))

    def has(self, key: str) -> bool:
        return self._value.get(key) is not None

    def given(self) -> tuple[str, ...]:
        """The keys that have a value; whatever was decoded has text for keys."""
        return tuple(key for key in self._value if self.has(key))

    def take(self, key: str, convert: Callable[[object], Any]) -> Any:
        """The converted value; None when absent, null or wrong."""
        if not self.has(key):
            return None
        return self.convert(f".{key}", self._value[key], convert)

    def convert(self, path: str, value: object, convert: Callable[[object], Any]) -> Any:
        try:
            return convert(value)
        except RequestError as error:
            self.faults.extend(error.faults)
        except ValueError as error:
            self.fault(path, str(error))
        return None

    def nested(self, key: str) -> Object:
        """The object under a key; an empty one when absent or null."""
        value = self._value[key] if self.has(key) else {}
        return Object(value, f"{self.where}.{key}".removeprefix("."), self.faults)

    def take_list(self, key: str, most: int) -> list[Any]:
        if not self.has(key):
            return []
        value = self._value[key]
        if not isinstance(value, list):
            self.fault(f".{key}", f"must be a list, not {values.shown(value)}")
            return []
        if len(value) > most:
            self.fault(f".{key}", f"{len(value)} entries are more than {most}")
            return []
        return value
