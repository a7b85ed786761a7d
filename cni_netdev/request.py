"""One call of the plugin, from its environment and standard input; pure, and loads next to nothing.

CNI spec 1.1.0, sections 2 (execution protocol) and 3; what it leaves open follows the reference
plugins' skeleton (skel.go), so that runtimes meet the codes that they know.
"""

from __future__ import annotations

from cni_netdev.core.quickjson import loads

TYPE_CHECKING = False  # importing typing for it would cost each pod 4 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
DEFAULT_STATE_DIR = "/run/cni-netdev"

# Codes of the spec, and 8 and 999 as the reference code uses them.
VERSION, UNSUPPORTED, UNKNOWN_CONTAINER, ENVIRONMENT, IO, DECODE, CONFIG = 1, 2, 3, 4, 5, 6, 7
NETNS, TRY_AGAIN, UNAVAILABLE, INTERNAL = 8, 11, 50, 999

_COMMANDS = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
}
# Our own fields of the entry, whose faults are code 2; devices and policy are the core's to judge.
FIELDS = (
    "stateDir",
    "agentSocket",
    "logFile",
    "logLevel",
    "ipam",
    "reportAddresses",
    "policyFile",
)
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
# Of names of networks and containers (libcni); the first is a letter or digit.
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_IFNAME_BYTES = 15
_OWN_TYPE = "cni-netdev"
_LOG_LEVELS = ("debug", "info", "warn", "error")
MOST_BYTES = 16 * 1024 * 1024  # of standard input
_DEEPEST = 64  # levels of prevResult; the spec's has four


class CniError(Exception):
    """What the caller gets told: a code, a message and details."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class Config:
    """Our own fields of the conflist's entry, typed; devices and policies not decoded yet."""

    __slots__ = (
        "agent_socket",
        "devices",
        "ipam",
        "log_file",
        "log_level",
        "policy",
        "policy_file",
        "report_addresses",
        "state_dir",
    )

    def __init__(
        self,
        *,
        state_dir: str = DEFAULT_STATE_DIR,
        agent_socket: str = "",
        log_file: str = "",
        log_level: str = "info",
        devices: Any = None,
        policy: Any = None,
        policy_file: str = "",
        report_addresses: bool = False,
    ) -> None:
        self.state_dir = state_dir
        self.agent_socket = agent_socket
        self.log_file = log_file
        self.log_level = log_level
        self.devices = devices
        self.ipam: dict[str, Any] | None = None
        self.policy = policy
        self.policy_file = policy_file
        self.report_addresses = report_addresses


class Request:
    """One call.  prev_result is None for the first plugin of a list.

    environ, stdin: as they came, for another plugin.
    """

    __slots__ = (
        "annotations",
        "args",
        "command",
        "config",
        "container_id",
        "device_id",
        "environ",
        "ifname",
        "net_devices",
        "netns",
        "network",
        "prev_result",
        "stdin",
        "valid_attachments",
        "version",
    )

    def __init__(
        self, environ: Mapping[str, str], stdin: bytes, version: str, conf: dict[str, Any]
    ) -> None:
        """conf: the decoded standard input, checked as far as its version.  Raises CniError."""
        self.environ, self.stdin = environ, stdin
        self.command = environ["CNI_COMMAND"]
        strict = self.command != "DEL"
        runtime = _object(conf, "runtimeConfig") if strict else _if_object(conf, "runtimeConfig")
        self.container_id = environ.get("CNI_CONTAINERID", "")
        self.netns = environ.get("CNI_NETNS", "")
        self.ifname = environ.get("CNI_IFNAME", "")
        self.args = _args(environ.get("CNI_ARGS", "")) if strict else {}
        self.version = version
        self.network = _network(conf)
        self.config = read_config(conf, strict=strict)
        self.prev_result: dict[str, Any] | None = None
        if conf.get("prevResult") is not None:  # to DEL it matters only whether there is one
            self.prev_result = _previous(conf) if strict else _if_object(conf, "prevResult")
        self.net_devices = runtime.get("netDevices")
        self.device_id = runtime.get("deviceID") or conf.get("deviceID")
        self.annotations = _annotations(runtime) if strict else _if_object(runtime, ANNOTATIONS)
        self.valid_attachments = conf.get(
            "cni.dev/valid-attachments", conf.get("cni.dev/attachments")
        )

    @property
    def asks_for_something(self) -> bool:
        """Whether any source could hold a device; our annotation keys all hold "netdevice"."""
        return bool(
            self.config.devices
            or self.net_devices
            or self.device_id
            or (self.annotations and any("netdevice" in str(key) for key in self.annotations))
        )


def versions(stdin: bytes) -> dict[str, Any]:
    """The answer to VERSION, whatever version is asked in.  Raises CniError 6."""
    version = _stated_version(_document(stdin))
    return {"cniVersion": version, "supportedVersions": list(SUPPORTED)}


def read(environ: Mapping[str, str], stdin: bytes) -> Request:
    """The call.  Raises CniError: 4 environment, 6 decoding, 1 version, 2 and 7 configuration."""
    command = _command(environ)
    conf = _document(stdin)
    version = _version(conf)
    if command in _SINCE and _older(version, _SINCE[command]):
        raise CniError(VERSION, f"config version {version} does not allow {command}")
    return Request(environ, stdin, version, conf)


def best_version(stdin: bytes) -> str:
    """The version in which to answer when the call itself could not be read."""
    try:
        version = loads(stdin).get("cniVersion")
    except (ValueError, RecursionError, AttributeError):
        return NEWEST
    return version if version in SUPPORTED else NEWEST


def _command(environ: Mapping[str, str]) -> str:
    command = environ.get("CNI_COMMAND", "")
    if not command:
        raise CniError(ENVIRONMENT, "required env variables [CNI_COMMAND] missing")
    if command not in _COMMANDS:
        raise CniError(ENVIRONMENT, f"unknown CNI_COMMAND: {_shown(command)}")
    missing = [name for name in _COMMANDS[command] if not environ.get(name)]
    if missing:
        raise CniError(ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    if command in ("ADD", "DEL", "CHECK"):
        _check_ids(environ["CNI_CONTAINERID"], environ["CNI_IFNAME"])
    return command


def _is_name(text: str) -> bool:
    return text[:1].isalnum() and _IN_NAMES.issuperset(text)


def _check_ids(container: str, ifname: str) -> None:
    if not _is_name(container):
        raise CniError(ENVIRONMENT, f"CNI_CONTAINERID: {_shown(container)} is no container id")
    bad = ifname in (".", "..") or any(each in "/:" or each.isspace() for each in ifname)
    if bad or len(ifname.encode(errors="surrogateescape")) > _IFNAME_BYTES:
        raise CniError(
            ENVIRONMENT,
            f"CNI_IFNAME: {_shown(ifname)} is no interface name",
            "at most 15 bytes, no /, : or space, neither . nor ..",
        )


def _document(stdin: bytes) -> dict[str, Any]:
    if len(stdin) > MOST_BYTES:
        raise CniError(DECODE, f"standard input has more than {MOST_BYTES} bytes")
    try:
        conf = loads(stdin, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CniError(DECODE, "standard input is no JSON", str(error)) from None
    if not isinstance(conf, dict):
        raise CniError(DECODE, "standard input is no JSON object")
    return conf


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _stated_version(conf: dict[str, Any]) -> str:
    version = conf.get("cniVersion", "0.1.0")
    if not isinstance(version, str):
        raise CniError(DECODE, f"cniVersion: {_shown(version)} must be text")
    return version


def _version(conf: dict[str, Any]) -> str:
    version = _stated_version(conf)
    if version not in SUPPORTED:
        raise CniError(
            VERSION,
            f"cniVersion: {_shown(version)} is not supported",
            f"supported are {', '.join(SUPPORTED)}; chaining begins with 0.3.0",
        )
    return version


def _older(version: str, than: str) -> bool:
    return SUPPORTED.index(version) < SUPPORTED.index(than)


def _network(conf: dict[str, Any]) -> str:
    name = conf.get("name")
    if isinstance(name, str) and _is_name(name):
        return name
    raise CniError(
        CONFIG,
        f"name: {_shown(name)} is no network name" if name else "name: is missing",
        "letters, digits, _, . and -, beginning with a letter or digit",
    )


def _object(conf: dict[str, Any], key: str) -> dict[str, Any]:
    value = conf.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CniError(DECODE, f"{key}: {_shown(value)} must be an object")
    return value


def _if_object(conf: dict[str, Any], key: str) -> dict[str, Any]:
    value = conf.get(key)
    return value if isinstance(value, dict) else {}


def _previous(conf: dict[str, Any]) -> dict[str, Any]:
    previous = _object(conf, "prevResult")
    if _is_deep(previous):
        raise CniError(DECODE, f"prevResult: is nested deeper than {_DEEPEST} levels")
    for key in ("interfaces", "ips", "routes"):
        if not isinstance(previous.get(key) or [], list):
            raise CniError(DECODE, f"prevResult.{key}: {_shown(previous[key])} must be a list")
    return previous


def _is_deep(value: dict[str, Any]) -> bool:
    """Whether it may be too deep to be written again: json's encoder recurses."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        values = [each.values() if isinstance(each, dict) else each for each in level]
        level = [inner for part in values for inner in part if isinstance(inner, dict | list)]
    return bool(level)


def _annotations(runtime: dict[str, Any]) -> Any:
    value = runtime.get(ANNOTATIONS)
    if value is not None and not isinstance(value, dict):
        raise CniError(CONFIG, f"runtimeConfig.{ANNOTATIONS}: {_shown(value)} must be an object")
    return value


def _args(text: str) -> dict[str, str]:
    """CNI_ARGS: KEY=VALUE;KEY=VALUE."""
    found = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(ENVIRONMENT, f"CNI_ARGS: {_shown(pair)} is no KEY=VALUE")
        found[key] = value
    return found


# --- our own fields of the entry ---------------------------------------------------------------


def read_config(conf: dict[str, Any], *, strict: bool = True) -> Config:
    """Our fields, each of its type.  Raises CniError 2, which names the key and its value.

    strict: False for DEL, which must do its work whatever became of the other fields.
    """
    config = Config(
        state_dir=_path(conf, "stateDir") or DEFAULT_STATE_DIR,
    )
    if not strict:
        config.log_file, config.devices = str(conf.get("logFile") or ""), conf.get("devices")
        config.ipam = conf["ipam"] if conf.get("ipam") and not _ipam_fault(conf["ipam"]) else None
        return config
    config.agent_socket, config.log_file = _path(conf, "agentSocket"), _path(conf, "logFile")
    if conf.get("ipam"):
        if fault := _ipam_fault(conf["ipam"]):
            raise CniError(UNSUPPORTED, fault, 'as in {"type": "host-local", ...}')
        config.ipam = conf["ipam"]
    if "policy" in conf and "policyFile" in conf:
        raise CniError(UNSUPPORTED, "policy and policyFile: only one of them may be given")
    report = conf.get("reportAddresses", False)
    if not isinstance(report, bool):
        raise CniError(UNSUPPORTED, f"reportAddresses: {_shown(report)} is neither true nor false")
    config.log_level = _level(conf)
    config.devices, config.policy = conf.get("devices"), conf.get("policy")
    config.policy_file = _path(conf, "policyFile")
    config.report_addresses = report
    return config


def _ipam_fault(value: Any) -> str:
    """What is wrong with it; its other keys are that plugin's own."""
    if not isinstance(value, dict):
        return f"ipam: {_shown(value)} must be an object"
    name = value.get("type")
    if not isinstance(name, str) or not _is_name(name):
        return f"ipam.type: {_shown(name)} is no name of a plugin in CNI_PATH"
    return f"ipam.type: {_shown(name)} would call itself" if name == _OWN_TYPE else ""


def _path(conf: dict[str, Any], key: str) -> str:
    value = conf.get(key, "")
    if isinstance(value, str) and (not value or value.startswith("/")) and _is_plain(value):
        return value
    raise CniError(UNSUPPORTED, f"{key}: {_shown(value)} is no absolute path")


def _is_plain(text: str) -> bool:
    """Whether it can be a file's name: neither a zero nor half a surrogate pair in it."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def _level(conf: dict[str, Any]) -> str:
    level = conf.get("logLevel", "info")
    if not isinstance(level, str) or level not in _LOG_LEVELS:
        known = ", ".join(_LOG_LEVELS)
        raise CniError(UNSUPPORTED, f"logLevel: {_shown(level)} is none of {known}")
    return level


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004 - a line's worth
