"""Hosts of a test: network namespaces, joined by a bridge that is in a namespace of its own.

Nothing of it is seen from outside: addresses are of 198.18.0.0/15 (RFC 2544, for tests of networks), the same in every network.
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_NAMESPACES = Path("/run/netns")
_PREFIX = "peerd-test"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


@dataclass(frozen=True)
class Host:
    """One host, with loopback and `eth0`."""

    namespace: str
    address: str
    bridge: str
    """The namespace that has the other end of its cable, `port`."""

    port: str

    def command(self, *command: str | Path) -> list[str | Path]:
        """The same command, on this host. It keeps the pid that it is started with."""
        return ["nsenter", f"--net={_NAMESPACES / self.namespace}", "--", *command]

    def inside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns when it is called on this host; a socket that it makes stays this host's."""

        return _inside(self.namespace, function)

    def limit(self, mbit_per_s: int, *, both_ways: bool = False) -> None:
        """What this host may send, and no more; `both_ways`: nor may more be sent to it."""
        ends = [(self.namespace, "eth0"), (self.bridge, self.port)]
        bucket_kib = max(32, mbit_per_s)
        rate = ("rate", f"{mbit_per_s}mbit", "burst", f"{bucket_kib}kb", "latency", "100ms")
        for namespace, device in ends if both_ways else ends[:1]:
            # A packet that is larger than the bucket is dropped, and veth's are of up to 64 KiB: a quarter of it at most.
            _ip("-n", namespace, "link", "set", device, "gso_max_size", str(min(bucket_kib << 8, 64 << 10)))
            command = ("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf", *rate)
            subprocess.run(command, check=True, timeout=10)

    def unlimit(self) -> None:
        """Take the limit away."""
        subprocess.run(self.command("tc", "qdisc", "del", "dev", "eth0", "root"), check=True, timeout=10)

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Nothing gets to this host or leaves it within this block; nobody is told."""
        _ip("-n", self.namespace, "link", "set", "eth0", "down")
        try:
            yield
        finally:
            _ip("-n", self.namespace, "link", "set", "eth0", "up")


class Network:
    """A bridge, and the hosts that were added to it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._name = f"{_PREFIX}-{os.getpid()}-{next(_serial)}"
        self._bridge = self._namespace("bridge")
        _ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "br0", "up")
        _inside(self._bridge, _take_for_a_switch)

    def host(self, number: int) -> Host:
        """A new host, 198.18.0.`number`."""
        name, port, address = self._namespace(str(number)), f"port{number}", f"198.18.0.{number}"
        _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", self._bridge)
        _ip("-n", self._bridge, "link", "set", port, "master", "br0", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        return Host(name, address, self._bridge, port)

    def _namespace(self, what: str) -> str:
        name = f"{self._name}-{what}"
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "delete", name)
        return name


@contextmanager
def network() -> Iterator[Network]:
    """A network within this block. What tests that were killed left behind is removed first."""
    for left in _NAMESPACES.glob(f"{_PREFIX}-*"):
        if not Path("/proc", left.name.removeprefix(f"{_PREFIX}-").partition("-")[0]).exists():
            _ip("netns", "delete", left.name)
    with ExitStack() as stack:
        yield Network(stack)


def _inside(name: str, function: Callable[[], Result]) -> Result:
    def enter() -> None:
        with (_NAMESPACES / name).open() as namespace:
            if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"network namespace {name} can not be entered")

    # A network namespace is a thread's own; this thread ends with the call.
    with ThreadPoolExecutor(1, initializer=enter) as thread:
        return thread.submit(function).result()


def _take_for_a_switch() -> None:
    """Docker has the kernel hand each frame of a bridge to iptables; a switch does not, and its work is the hosts' here."""
    for setting in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        setting.write_text("0")


def _ip(*arguments: str) -> None:
    run = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=10)
    assert run.returncode == 0, f"ip {' '.join(arguments)}: {run.stderr}"
