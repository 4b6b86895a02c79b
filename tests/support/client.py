"""A client that reads as containerd 1.6 does (remotes/docker: resolver.go, fetcher.go, httpreadseeker.go), over HTTP.

What the node answers with 404 or 5xx, or not at all, is asked where it comes from; a body that is broken off in order is gone on
with at the same byte, with `Range`, beginning at the node again; a body that is reset is a failure, and so is an answer that
containerd forgives no mirror. Up to three blobs of an image come at once.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from app.content.byte_range import ByteRange
from tests.containerd.network import Host
from tests.support.wire import End, Head, Wire

BLOBS_AT_ONCE = 3
FRUITLESS_MAX = 3
"""How often a body may be begun again that brings no byte more."""

PIECE_BYTES = 256 << 10

_ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
)

Address = tuple[str, int]


class ClientFailed(AssertionError):
    """What the client got is no good, and not because its origin is away."""


class OriginAway(Exception):
    """The origin itself did not answer, or broke off: without a node between, this would not have gone either."""


@dataclass(frozen=True)
class Place:
    """Something to be read: its target at the node, its address and target at its origin."""

    at_node: str
    origin: Address
    at_origin: str


@dataclass
class Tally:
    """What happened to a client. Threads share it."""

    from_node: int = 0
    """Bytes."""

    from_origin: int = 0
    gone_on: int = 0
    """Bodies that were broken off and gone on with."""

    turned_to_origin: int = 0
    """Answers for which the origin was asked instead of the node."""

    longest_wait_seconds: float = 0.0
    """Without a byte, of an answer that was begun or of a body."""

    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def got(self, count: int, *, of_node: bool, waited_seconds: float) -> None:
        with self.lock:
            if of_node:
                self.from_node += count
            else:
                self.from_origin += count
            self.longest_wait_seconds = max(self.longest_wait_seconds, waited_seconds)

    def add(self, *, gone_on: int = 0, turned_to_origin: int = 0) -> None:
        with self.lock:
            self.gone_on += gone_on
            self.turned_to_origin += turned_to_origin


@dataclass(frozen=True)
class Client:
    """One on a host. Without `node` it asks the origin alone."""

    host: Host
    node: Address | None
    tally: Tally = field(default_factory=Tally)
    on_bytes: Callable[[int], None] = lambda _: None

    def pull(self, place_of: Callable[[str], Place], tag: str, target: str, held: set[str]) -> None:
        """Pull an image, whose index must be `target`. What is whole and right is added to `held`, and not pulled again.

        `place_of` says where `manifests/<reference>` and `blobs/<digest>` of its repository are.
        """
        wire, head, _ = self._open(place_of(f"manifests/{tag}"), 0, None, method="HEAD")
        wire.close()
        if (said := head.headers.get("docker-content-digest")) != target:
            raise ClientFailed(f"the tag stands for {said}, not for {target}")
        index = json.loads(self._document(place_of(f"manifests/{target}"), target))
        (chosen,) = (one for one in index["manifests"] if one["platform"]["architecture"] == "amd64")
        manifest = json.loads(self._document(place_of(f"manifests/{chosen['digest']}"), chosen["digest"]))
        held |= {target, chosen["digest"]}
        missing = [one for one in (manifest["config"], *manifest["layers"]) if one["digest"] not in held]

        def fetch(described: dict[str, object]) -> None:
            digest = str(described["digest"])
            self._verified(place_of(f"blobs/{digest}"), digest)
            held.add(digest)

        with ThreadPoolExecutor(BLOBS_AT_ONCE) as threads:
            for done in [threads.submit(fetch, one) for one in missing]:
                done.result()

    def read(self, place: Place, span: ByteRange | None = None) -> Iterator[bytes | bytearray]:
        """The bytes of a part, or of the whole. Raises ClientFailed and OriginAway."""
        at, stop = (span.start, span.stop) if span else (0, None)
        fruitless = 0
        while True:
            wire, head, of_node = self._open(place, at, stop)
            before = at
            with wire:
                end_of_body = at + int(head.headers["content-length"])
                if stop is None and at == 0:
                    stop = end_of_body
                if end_of_body != stop:
                    raise ClientFailed(f"{place.at_node}: {end_of_body - at} bytes were promised from {at} to {stop}")
                end = End.WHOLE
                while at < stop and end is End.WHOLE:
                    began = time.monotonic()
                    piece, end = wire.read(min(PIECE_BYTES, stop - at))
                    self.tally.got(len(piece), of_node=of_node, waited_seconds=time.monotonic() - began)
                    self.on_bytes(len(piece))
                    at += len(piece)
                    yield piece
            if at == stop:
                return
            if end is End.RESET:
                raise (ClientFailed if of_node else OriginAway)(f"{place.at_node}: reset at byte {at} of {stop}")
            fruitless = fruitless + 1 if at == before else 0
            if fruitless > FRUITLESS_MAX:
                raise (ClientFailed if of_node else OriginAway)(f"{place.at_node}: nothing comes after byte {at}")
            self.tally.add(gone_on=1)

    def _verified(self, place: Place, digest: str) -> None:
        summed = hashlib.sha256()
        for piece in self.read(place):
            summed.update(piece)
        if f"sha256:{summed.hexdigest()}" != digest:
            raise ClientFailed(f"{place.at_node}: wrong bytes")

    def _document(self, place: Place, digest: str) -> bytes:
        data = b"".join(self.read(place))
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise ClientFailed(f"{place.at_node}: wrong bytes")
        return data

    def _open(self, place: Place, start: int, stop: int | None, method: str = "GET") -> tuple[Wire, Head, bool]:
        """The first answer of success: its connection, its head, and whether the node gave it."""
        asked = "" if not start and stop is None else f"bytes={start}-{'' if stop is None else stop - 1}"
        headers = {"Accept": _ACCEPT, **({"Range": asked} if asked else {})}
        doors: list[tuple[Address, str]] = [(self.node, place.at_node)] if self.node is not None else []
        doors.append((place.origin, place.at_origin))
        why: object = None
        for address, target in doors:
            of_node = address == self.node
            began = time.monotonic()
            with ExitStack() as stack:
                try:
                    wire = stack.enter_context(self.host.inside(partial(Wire, *address)))
                    head = wire.begin(target, method=method, headers=headers)
                except TimeoutError as error:
                    if of_node:
                        raise ClientFailed(f"{target}: the node says nothing") from error
                    why = error
                except (OSError, EOFError) as error:
                    why = error
                else:
                    self.tally.got(0, of_node=of_node, waited_seconds=time.monotonic() - began)
                    self._check(target, head, asked, start, of_node=of_node)
                    if head.status in (200, 206):
                        stack.pop_all()
                        return wire, head, of_node
                    why = head.status
            if of_node:
                self.tally.add(turned_to_origin=1)
        raise OriginAway(f"{place.at_origin}: {why}")

    @staticmethod
    def _check(target: str, head: Head, asked: str, start: int, *, of_node: bool) -> None:
        """An answer may be a success or send the client on; others cost a client of a mirror its pull."""
        if head.status not in (200, 206):
            if of_node and head.status != 404 and head.status < 500:
                raise ClientFailed(f"{target}: the node answered {head.status}")
            return
        if head.status != (206 if asked else 200):
            raise ClientFailed(f"{target}: answered {head.status} to {asked or 'the whole'}")
        if asked and not head.headers["content-range"].startswith(f"bytes {start}-"):
            raise ClientFailed(f"{target}: answered {head.headers['content-range']} to {asked}")


def in_registry(origin: Address, name: str, repository: str) -> Callable[[str], Place]:
    """Where things of a repository are: at a node as `name`'s, and at the registry."""
    return lambda what: Place(f"/v2/{repository}/{what}?ns={name}", origin, f"/v2/{repository}/{what}")


def at_url(origin: Address, path: str) -> Place:
    """Where a file of a blob store is."""
    return Place(f"/blobs/http://{origin[0]}:{origin[1]}{path}", origin, path)
