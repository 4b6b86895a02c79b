"""Bytes out of a node beside nginx (one worker, tcp_nopush off: its best here) and Go's net/http, on loopback.

    python -m bench.dataplane [hot tls cold small] [--rounds 3] [--seconds 2]

hot    1 MiB and 64 KiB ranges at random over 8 connections, a whole file of 512 MiB; from the cache, through `/blobs`
tls    1 MiB ranges over 8 connections with client certificates, from the door for peers
cold   1 MiB ranges that nobody has asked for yet, from upstream through the cache to the client, every byte hashed on the way;
       beside nginx's proxy_cache, which hashes nothing
small  a manifest of 2 KiB and ranges of 4 KiB over 32 connections

Servers are measured in turn, round after round; a line is the median of the rounds, and its ratio that of the medians. Before a turn of
`cold` the disk takes what was cached before. Exit 1 when a line misses its goal.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Load, Request, load
from bench.servers import Missing, cpu_seconds, free_port, running, running_nginx, running_node

MIB = 1 << 20
SIZE = 512 * MIB
COLD_CHUNKS = 160
"""Asked for once by each of the cold lines' rounds."""

COLD_ROUNDS_MORE = 2
"""A round is over in half a second, and what it shows moves more than the others."""

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_P99_MS = 7

GO = """
package main

import (
	"net/http"
	"os"
)

func main() {
	http.Handle("/", http.FileServer(http.Dir(os.Args[2])))
	panic(http.ListenAndServe(os.Args[1], nil))
}
"""

PROXY = """
    proxy_cache_path {folder}/proxied levels=1:2 keys_zone=k:16m max_size=8g use_temp_path=off;
    upstream store {{ server 127.0.0.1:{store}; keepalive 32; }}
"""


@dataclass
class Server:
    """One of those that are compared: where it is asked, and what its processors were busy for."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    tls: ssl.SSLContext | None = None
    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, next_request: Callable[[], Request | None], connections: int, seconds: float) -> None:
        """One round."""
        before = cpu_seconds(self.process.pid)
        done = load(
            self.port,
            next_request,
            connections=connections,
            seconds=seconds,
            tls=self.tls,
            may_be_busy=self.tls is not None,  # A member's door, which answers so where it is slow.
        )
        self.cpu.append((cpu_seconds(self.process.pid) - before) / (done.body_bytes / (1 << 30)))
        self.loads.append(done)

    def median(self, of: Callable[[Load], float]) -> float:
        """Over the rounds."""
        return statistics.median(map(of, self.loads))


@dataclass(frozen=True)
class Goal:
    """The least that a line's ratio to a server may be; `cpu` is the most of that server's processor time for each byte."""

    ratio: float
    cpu: float | None = None


def main() -> int:
    """Measure, print, and tell whether all goals were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which (all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each server in each round")
    arguments = parser.parse_args()
    failed = False
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="peerd-bench-") as folder, ExitStack() as stack:
            try:
                failed |= not PARTS[part](Path(folder), stack, arguments.rounds, arguments.seconds)
            except Missing as error:
                print(error)
                return 1
    return 1 if failed else 0


def table(
    title: str,
    servers: Sequence[Server],
    requests: Callable[[Server], Callable[[], Request | None]],
    goals: dict[str, Goal],
    *,
    connections: int,
    rounds: int,
    seconds: float,
    small: bool = False,
    before: Callable[[], None] = lambda: None,
) -> bool:
    """Measure in turn and print; the last of the servers is ours. Tells whether the goals, by server's name, were met.

    `before` is called before each turn.
    """
    for server in servers:
        server.loads.clear()
        server.cpu.clear()
    for _ in range(rounds):
        for server in servers:
            before()
            server.measure(requests(server), connections, seconds)
    print(f"\n{title}, {connections} connection{'s' * (connections > 1)}")
    unit = "requests/s" if small else "GiB/s"
    print(f"  {'':22} {unit:>10}  {'CPU s/GiB':>9}  {'p50 ms':>7}  {'p99 ms':>7}  peerd/it")
    ours, met = servers[-1], True
    rate: Callable[[Load], float] = (lambda one: one.requests_per_second) if small else (lambda one: one.gib_per_second)
    for server in servers:
        ratio, cpu = ours.median(rate) / server.median(rate), statistics.median(server.cpu)
        goal = goals.get(server.name)
        notes = ""
        if goal is not None:
            reached = ratio >= goal.ratio
            notes = f"  (goal {goal.ratio}: {'met' if reached else 'MISSED'}"
            if goal.cpu is not None:
                cpu_ratio = statistics.median(ours.cpu) / cpu
                reached &= cpu_ratio <= goal.cpu
                notes += (
                    f"; CPU {cpu_ratio:.2f} of its, at most {goal.cpu}: {'met' if cpu_ratio <= goal.cpu else 'MISSED'}"
                )
            notes += ")"
            met &= reached
        rate_text = f"{server.median(rate):10.0f}" if small else f"{server.median(rate):10.2f}"
        shares = [1000 * server.median(lambda one, part=part: one.latency(part)) for part in (0.5, 0.99)]
        cpu_text = f"{cpu:9.2f}" if not small else f"{'':9}"
        print(
            f"  {server.name:22} {rate_text}  {cpu_text}  {shares[0]:7.2f}  {shares[1]:7.2f}  "
            + (f"{ratio:8.2f}" if server is not ours else f"{'':8}")
            + notes,
            flush=True,
        )
    return met


def random_ranges(target: str, size: int, count: int) -> Callable[[], Request]:
    """Ranges of `count` bytes at random places that are multiples of it."""
    rng = random.Random(1)

    def next_request() -> Request:
        at = rng.randrange(size // count) * count
        return target, {"Range": f"bytes={at}-{at + count - 1}"}

    return next_request


def make_file(path: Path, size: int) -> None:
    """Random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def read_whole(port: int, target: str) -> None:
    """Have it in the cache."""
    load(port, iter_once([(target, {})]), connections=1)


def iter_once(requests: Sequence[Request]) -> Callable[[], Request | None]:
    """Each of them once."""
    left: Iterator[Request] = iter(requests)
    return lambda: next(left, None)


def go_server(folder: Path, stack: ExitStack) -> list[Server]:
    """Go's net/http over the same files; none where Go is not installed."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        print("Go is not installed: no line for net/http")
        return []
    (folder / "srv").mkdir()
    (folder / "srv" / "main.go").write_text(GO)
    (folder / "srv" / "go.mod").write_text("module srv\n\ngo 1.19\n")
    subprocess.run([go, "build", "-o", "srv", "."], cwd=folder / "srv", check=True)
    port = free_port()
    process = stack.enter_context(running([folder / "srv" / "srv", f"127.0.0.1:{port}", folder / "files"], port))
    return [Server("Go net/http", port, process)]


def three(folder: Path, stack: ExitStack) -> tuple[list[Server], int]:
    """An nginx, which is the node's upstream too, Go, and the node; and the port of nginx."""
    store, door = free_port(), free_port()
    manifests = f"location /v2/ {{ default_type {MANIFEST_TYPE}; }}"
    nginx = stack.enter_context(running_nginx(folder, store, f"server {{ listen 127.0.0.1:{store}; {manifests} }}"))
    node = stack.enter_context(running_node(folder, door, "--registry", f"r.test=http://127.0.0.1:{store}"))
    return [Server("nginx", store, nginx), *go_server(folder, stack), Server("peerd", door, node)], store


def hot(folder: Path, stack: ExitStack, rounds: int, seconds: float) -> bool:
    """Bytes that are in the cache."""
    make_file(folder / "files" / "blob", SIZE)
    servers, store = three(folder, stack)
    read_whole(servers[-1].port, f"/blobs/http://127.0.0.1:{store}/blob")

    def target(server: Server) -> str:
        return f"/blobs/http://127.0.0.1:{store}/blob" if server.name == "peerd" else "/blob"

    def ranges(count: int) -> Callable[[Server], Callable[[], Request]]:
        return lambda server: random_ranges(target(server), SIZE, count)

    def whole(server: Server) -> Callable[[], Request | None]:
        return iter_once([(target(server), {})] * 4)

    met = table(
        "hot ranges of 1 MiB", servers, ranges(MIB), {"nginx": Goal(0.75), "Go net/http": Goal(0.9)},
        connections=8, rounds=rounds, seconds=seconds,
    )  # fmt: skip
    met &= table(
        "hot ranges of 64 KiB", servers, ranges(64 << 10), {"nginx": Goal(0.35)},
        connections=8, rounds=rounds, seconds=seconds,
    )  # fmt: skip
    return met & table(
        "a whole file of 512 MiB", servers, whole, {"nginx": Goal(0.9, cpu=1.3)},
        connections=1, rounds=rounds, seconds=1e9,
    )  # fmt: skip


def wait_for_members(door: int, count: int) -> None:
    """Until a node sees so many alive. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{door}/api/v1/members") as answer:
            if sum(member["state"] == "alive" for member in json.load(answer)["members"]) == count:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{count} members do not find each other")


def tls(folder: Path, stack: ExitStack, rounds: int, seconds: float) -> bool:
    """Bytes for other members."""
    make_file(folder / "files" / "blob", SIZE // 2)
    authority = folder / "ca"
    peerd = [sys.executable, "-m", "app.cli", "certs"]
    subprocess.run([*peerd, "init", "--out", authority], check=True, stdout=subprocess.DEVNULL)
    for name in ("node", "other"):
        command = [*peerd, "issue", "--name", name, "--ip", "127.0.0.1", "--out", authority]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    store, secure, door, peers, gossip = (free_port() for _ in range(5))
    own = f"ssl_certificate {authority}/node.crt; ssl_certificate_key {authority}/node.key;"
    checked = f"ssl_client_certificate {authority}/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.3;"
    config = f"server {{ listen 127.0.0.1:{store}; }} server {{ listen 127.0.0.1:{secure} ssl; {own} {checked} }}"
    nginx = stack.enter_context(running_nginx(folder, store, config))

    def member(name: str, port: int, *options: str) -> subprocess.Popen[bytes]:
        files = {"--tls-ca": "ca.crt", "--tls-cert": f"{name}.crt", "--tls-key": f"{name}.key"}
        paper = [part for option, file in files.items() for part in (option, f"{authority}/{file}")]
        return stack.enter_context(
            running_node(folder / name, port, "--node-name", name, "--membership", "static", *paper, *options)
        )

    def doors(peer: int, gossiping: int) -> tuple[str, ...]:
        return "--peer-addr", f"127.0.0.1:{peer}", "--gossip-addr", f"127.0.0.1:{gossiping}"

    node = member("node", door, *doors(peers, gossip))
    # Only members are answered at the door for peers: the client shows the certificate of this one.
    member("other", free_port(), *doors(free_port(), free_port()), "--join", f"127.0.0.1:{gossip}")
    wait_for_members(door, 2)
    read_whole(door, f"/blobs/http://127.0.0.1:{store}/blob")
    with urllib.request.urlopen(f"http://127.0.0.1:{door}/api/v1/contents") as answer:
        [key] = [content["key"] for content in json.load(answer)["contents"]]
    context = ssl.create_default_context(cafile=authority / "ca.crt")
    context.check_hostname = False
    context.load_cert_chain(authority / "other.crt", authority / "other.key")
    servers = [Server("nginx", secure, nginx, context), Server("peerd", peers, node, context)]

    def ranges(server: Server) -> Callable[[], Request]:
        return random_ranges(f"/contents/{key}" if server.name == "peerd" else "/blob", SIZE // 2, MIB)

    return table(
        "hot ranges of 1 MiB over mutual TLS", servers, ranges, {"nginx": Goal(1.0)},
        connections=8, rounds=rounds, seconds=seconds,
    )  # fmt: skip


def cold(folder: Path, stack: ExitStack, rounds: int, _seconds: float) -> bool:
    """Bytes that have to be fetched first."""
    rounds += COLD_ROUNDS_MORE
    total = COLD_CHUNKS * rounds * 2
    make_file(folder / "files" / "blob", total * MIB)
    with (folder / "files" / "blob").open("rb") as blob:
        for number in range(total):
            path = folder / "files" / "c" / str(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(blob.read(MIB))
    store, proxy, door = (free_port() for _ in range(3))
    config = PROXY.format(folder=folder, store=store) + (
        f"server {{ listen 127.0.0.1:{proxy}; location / {{ proxy_pass http://store; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; proxy_cache k; proxy_cache_valid 200 1h; } }'
    )
    stack.enter_context(running_nginx(folder, store, f"server {{ listen 127.0.0.1:{store}; }}"))
    (folder / "proxy").mkdir()
    nginx = stack.enter_context(running_nginx(folder / "proxy", proxy, config))
    node = stack.enter_context(running_node(folder, door, "--no-prefetch"))
    servers = [Server("nginx proxy_cache", proxy, nginx), Server("peerd", door, node)]
    met = True
    numbers = list(range(total))
    random.Random(2).shuffle(numbers)
    for connections, goal in ((1, 0.45), (4, 0.9)):
        left = {server.name: [numbers.pop() for _ in range(COLD_CHUNKS * rounds)] for server in servers[:1]}
        left["peerd"] = list(left["nginx proxy_cache"])

        def fresh(server: Server, left: dict[str, list[int]] = left) -> Callable[[], Request | None]:
            chunks = [left[server.name].pop() for _ in range(COLD_CHUNKS)]
            if server.name == "peerd":
                url = f"/blobs/http://127.0.0.1:{store}/blob"
                return iter_once([(url, {"Range": f"bytes={n * MIB}-{(n + 1) * MIB - 1}"}) for n in chunks])
            return iter_once([(f"/c/{number}", {}) for number in chunks])

        met &= table(
            f"cold ranges of 1 MiB, {COLD_CHUNKS} a round", servers, fresh, {"nginx proxy_cache": Goal(goal)},
            connections=connections, rounds=rounds, seconds=1e9, before=lambda: settle(folder),
        )  # fmt: skip
    return met


def settle(folder: Path) -> None:
    """Have the disk take what was cached, and memory let go of it.

    Else a turn pays for the writing back of another's bytes. And where a virtual machine gives free memory back to its host, new pages are
    dear, and who gets them is chance.
    """
    os.sync()
    for top, folders, names in os.walk(folder):
        if Path(top) == folder:
            folders.remove("files")  # What upstream has.
        for name in names:
            with suppress(OSError), Path(top, name).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def small(folder: Path, stack: ExitStack, rounds: int, seconds: float) -> bool:
    """Requests that are mostly overhead."""
    nothing = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    }
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {**nothing, "size": 2}, "layers": [],
        "annotations": {"padding": "x" * 1700},
    }  # fmt: skip
    manifest = json.dumps(document).encode()
    path = f"/v2/app/manifests/sha256:{hashlib.sha256(manifest).hexdigest()}"
    place = folder / "files" / path.removeprefix("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(manifest)
    make_file(folder / "files" / "blob", 64 * MIB)
    servers, store = three(folder, stack)

    def manifests(server: Server) -> Callable[[], Request]:
        return lambda: (f"{path}?ns=r.test" if server.name == "peerd" else path, {})

    def ranges(server: Server) -> Callable[[], Request]:
        target = f"/blobs/http://127.0.0.1:{store}/blob" if server.name == "peerd" else "/blob"
        return random_ranges(target, 64 * MIB, 4 << 10)

    read_whole(servers[-1].port, f"/blobs/http://127.0.0.1:{store}/blob")
    table(
        "a manifest of 2 KiB", servers, manifests, {}, connections=32, rounds=rounds, seconds=seconds, small=True,
    )  # fmt: skip
    p99_ms = 1000 * servers[-1].median(lambda one: one.latency(0.99))
    met = p99_ms <= MANIFEST_P99_MS
    print(f"  peerd's p99: goal at most {MANIFEST_P99_MS} ms: {'met' if met else 'MISSED'}")
    return met & table(
        "hot ranges of 4 KiB", servers, ranges, {}, connections=32, rounds=rounds, seconds=seconds, small=True,
    )  # fmt: skip


PARTS: dict[str, Callable[[Path, ExitStack, int, float], bool]] = {"hot": hot, "tls": tls, "cold": cold, "small": small}

if __name__ == "__main__":
    sys.exit(main())
