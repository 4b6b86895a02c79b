"""The text of a `hosts.toml`: peerd put in first, and taken out again. Pure: text in, text out.

containerd tries the hosts of the file in their order and then its `server` (docs/hosts.md there). peerd adds one block,
between two comments, at the one place where a TOML file can take it without a byte of the rest being touched: after the
last key that stands outside any table, before the first table.

    ca = "/etc/ssl/corp.pem"            what was there
    # peerd begins: …
    server = "https://ghcr.io"          only where there is none

    [host."http://127.0.0.1:5000"]
    capabilities = ["pull", "resolve"]
    dial_timeout = "1s"

    # peerd ends.
    # Our cache.                        what was there
    [host."https://cache.example"]

So `remove(install(text, …)) == text` for every text that has no such block, and what was written by hand keeps its comments and its order. That the
result means what it should is not assumed: it is parsed and compared before it is returned.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from app.errors import PeerdError

DIAL_TIMEOUT = "1s"
"""How long containerd waits for a connection to peerd. On loopback only a node in trouble takes longer.

Known to containerd from 2.1 on; 1.6 and 1.7 pass over keys that they do not know, and wait 30 s (tested with 1.6).
"""

_BEGIN = (
    '# peerd begins: written by "peerd hosts install", taken out by "peerd hosts restore"; changes in here are lost.\n'
)
_JOINED = "# The line above had no end; this one goes with the rest.\n"
_END = "# peerd ends.\n"

_BEGIN_LINE = re.compile("^" + re.escape(_BEGIN), re.MULTILINE)
_END_LINE = re.compile("^" + re.escape(_END), re.MULTILINE)
_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


class HostsTomlRefused(PeerdError):
    """A file that peerd can not be put into without changing what it means, or that containerd can not read either."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """What is put into a file.

    Attributes:
        url: peerd's node door, e.g. `http://127.0.0.1:5000`.
        server: the registry itself, for a file that does not say; None to leave that to containerd.
        ca: files of certificate authorities; they and `client` are what containerd takes from the folder as long as it has
            no `hosts.toml`, and what it would no longer take once it has one.
        client: pairs of certificate and key files.
    """

    url: str
    server: str | None
    ca: Sequence[str] = ()
    client: Sequence[tuple[str, str]] = field(default=())


def door_url(host: str, port: int) -> str:
    """Where containerd reaches the door that peerd listens on at `host`, an address as `--http-addr` has it.

    containerd 1.6 passes over a whole file that has a `]` in a table's name, however it is quoted or escaped (go-toml 1;
    tested), so an IPv6 address can not be written. `localhost` can, and Go tries all addresses that it has; where ::1 is not
    among them, `peerd doctor` finds that nobody listens there.
    """
    match host:
        case "0.0.0.0":
            return f"http://127.0.0.1:{port}"
        case "::" | "::1":
            return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def install(text: str, mirror: Mirror) -> str:
    """`text` with peerd as its first host; the same text when that was so already.

    A host of the same URL that was written by hand stays as it is, and nothing is added.
    Raises HostsTomlRefused.
    """
    if "]" in mirror.url:
        raise HostsTomlRefused(f"containerd 1.6 can not read {mirror.url} as a host: use an IPv4 address, or [::1]")
    base = remove(text)
    meant = _parse(base)
    hosts = meant.get("host", {})
    if not isinstance(hosts, dict):
        raise HostsTomlRefused('its "host" is no table; containerd can not read it either')
    if mirror.url in hosts:
        return base
    at = _end_of_root(base)
    block = _block(mirror, meant)
    before, after = base[:at], base[at:]
    joined = before != "" and not before.endswith("\n")
    installed = before + ("\n" if joined else "") + _BEGIN + (_JOINED if joined else "") + block + _END + after
    _check(installed, _expected(meant, mirror), mirror)
    return installed


def remove(text: str) -> str:
    """`text` without peerd's block; the same text when there is none."""
    while (block := _find_block(text)) is not None:
        start, end = block
        before = text[:start]
        if text.startswith(_BEGIN + _JOINED, start):
            before = before.removesuffix("\n")
        text = before + text[end:]
    return text


def is_installed(text: str) -> bool:
    """Whether peerd's block is in there."""
    return remove(text) != text


def hosts(text: str) -> list[str]:
    """URLs of the hosts in the order in which containerd tries them, its server last. Raises HostsTomlRefused."""
    meant = _parse(text)
    found = meant.get("host", {})
    server = meant.get("server")
    return [*(found if isinstance(found, dict) else ()), *([server] if isinstance(server, str) else ())]


def rebase(text: str, prefix: str) -> str:
    """`text` for a folder beside its own: relative paths of certificates get `prefix` in front. Raises HostsTomlRefused.

    containerd takes them as relative to the file's own folder.
    """
    _parse(text)
    document = tomlkit.parse(text)
    tables: list[Any] = [document]
    found = document.get("host")
    if isinstance(found, dict):
        tables += [table for table in found.values() if isinstance(table, dict)]
    for table in tables:
        for key in ("ca", "client"):
            if key in table:
                moved = _moved(table[key], prefix)
                if moved != table[key]:
                    table[key] = moved
    return tomlkit.dumps(document)


def _moved(value: Any, prefix: str) -> Any:
    if isinstance(value, str):
        return str(value) if value.startswith("/") else prefix + value
    if isinstance(value, list):
        return [_moved(item, prefix) for item in value]
    return value


def _parse(text: str) -> dict[str, Any]:
    try:
        # Both readers have to agree: one is strict, the other writes.
        tomlkit.parse(text)
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, TOMLKitError) as error:
        raise HostsTomlRefused(f"it is not TOML ({error}); containerd can not read it either") from error


def _end_of_root(text: str) -> int:
    """Where the keys outside any table end: before the first table's header, and before the comment that belongs to it.

    A line that begins with `[` is a header only if everything before it is complete; else it lies in a string or an array.
    """
    for header in _HEADER.finditer(text):
        at = header.start()
        if not _is_complete(text[:at]):
            continue
        while at > 0:
            line = text.rfind("\n", 0, at - 1) + 1
            if not text[line:at].lstrip(" \t").startswith("#") or not _is_complete(text[:line]):
                break
            at = line
        return at
    return len(text)


def _is_complete(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _find_block(text: str) -> tuple[int, int] | None:
    """Where a block starts and ends: the first end that has a beginning, and the nearest such."""
    for end in _END_LINE.finditer(text):
        beginnings = list(_BEGIN_LINE.finditer(text, 0, end.start()))
        if beginnings:
            return beginnings[-1].start(), end.end()
    return None


def _block(mirror: Mirror, meant: dict[str, Any]) -> str:
    document = tomlkit.document()
    for key, value in _root_keys(mirror, meant).items():
        document.add(key, tomlkit.item(value))
    host = tomlkit.table()
    for key, value in _host_keys().items():
        host.add(key, tomlkit.item(value))
    super_table = tomlkit.table(is_super_table=True)
    super_table.add(mirror.url, host)
    document.add("host", super_table)
    return tomlkit.dumps(document) + "\n"


def _root_keys(mirror: Mirror, meant: dict[str, Any]) -> dict[str, Any]:
    """Keys outside any table that the file lacks."""
    keys: dict[str, Any] = {"server": mirror.server, "ca": list(mirror.ca), "client": [list(p) for p in mirror.client]}
    return {key: value for key, value in keys.items() if value and key not in meant}


def _host_keys() -> dict[str, Any]:
    return {"capabilities": ["pull", "resolve"], "dial_timeout": DIAL_TIMEOUT}


def _expected(meant: dict[str, Any], mirror: Mirror) -> dict[str, Any]:
    hosts = {mirror.url: _host_keys(), **meant.get("host", {})}
    return {**meant, **_root_keys(mirror, meant), "host": hosts}


def _check(installed: str, expected: dict[str, Any], mirror: Mirror) -> None:
    advice = 'write each of its hosts as a table of its own, [host."https://…"], and install again'
    try:
        found = tomllib.loads(installed)
    except tomllib.TOMLDecodeError as error:
        raise HostsTomlRefused(f'its "host" can not be added to ({error}): {advice}') from error
    if found != expected or next(iter(found["host"])) != mirror.url:
        raise HostsTomlRefused(f"its hosts are written in a way that keeps peerd from being the first: {advice}")
