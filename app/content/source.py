"""What a source of chunks promises. The reader knows its sources by these few words only.

A source is asked in two steps. `offers` is memory only: who might have this chunk, best first. An offer's `fetch` is
network or disk: it puts the bytes of one range, in order, into a sink. So the reader decides whom to ask, and goes on with
the next offer at the same byte when one fails.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.location import FileAtUrl, Location, ManifestInRegistry
from app.content.names import Name, Resolution
from app.content.validator import Validator


class SourceKind(StrEnum):
    """Where bytes came from; the label of `peerd_served_bytes_total` and the detail of `Cache-Status`."""

    CACHE = "cache"
    CONTAINERD = "containerd"
    PEER = "peer"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a content before its bytes.

    Attributes:
        size: in bytes; None where upstream does not say (chunked coding).
        validator: None where upstream gives none that can be trusted: such content is passed on, not kept.
        media_type: as upstream said.
        ranged: whether upstream honours `Range`.
        etag, last_modified: upstream's own headers, for clients' conditional requests.
    """

    size: int | None
    validator: Validator | None
    media_type: str | None = None
    ranged: bool = True
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """One content, as the reader and its sources speak of it.

    Attributes:
        key: under which its chunks are cached and shared until it is verified.
        digest: what the whole must hash to, where that is known.
        size: in bytes.
        location: where upstream has it, and with whose credential it may be asked; None where upstream may not be asked.
    """

    key: ContentKey
    digest: Digest | None
    size: int
    stat: Stat
    location: Location | None


class Sink(Protocol):
    """Where an offer puts its bytes. Safe to call from a thread; called by one offer at a time."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            SourceLied: more bytes than the range has.
            Abandoned: nobody wants them any more; the offer stops and releases its connection.
        """

    def expect_checksum(self, sha256: bytes) -> None:
        """Say what the whole chunk that the range lies in hashes to, before its bytes. 32 bytes."""


class Abandoned(Exception):
    """Nobody waits for these bytes any more."""


class Offer(Protocol):
    """One member, or upstream, that may have a chunk."""

    @property
    def kind(self) -> SourceKind:
        """Which counter its bytes belong to."""

    @property
    def name(self) -> str:
        """For logs and metrics: a member's name or upstream's host; never a URL with its query."""

    @property
    def trusted(self) -> bool:
        """Whether bytes may be shown to a client as they come (upstream), or only once the chunk's checksum is right (peers)."""

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        """Put the bytes of `span`, all of them and in order, into `sink`; return when the last is in.

        Raises:
            SourceUnavailable, SourceLied, RangesUnsupported: another offer may do better. Bytes that are in the sink already stay true.
            ContentChanged: upstream has another version by now.
            UpstreamRefused, UpstreamUnavailable, UpstreamForbidden, ContentUnknown: upstream's own words.
        """


class Source(Protocol):
    """Members, or upstream."""

    def offers(self, content: Content, chunk: int) -> Iterator[Offer]:
        """Who may have this chunk, best first. Memory only, microseconds, never raises."""


@dataclass(slots=True)
class Want:
    """How much a chunk is wanted. Shared with the fetch under way, so that it can become more urgent meanwhile.

    Attributes:
        awaited: a client waits for it; else it may be put back when whoever has it is busy.
    """

    awaited: bool


class Asker(Protocol):
    """Who is asked for chunks, and in what order. The reader's one way to everybody outside this node."""

    def offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:
        """Whom to ask next for a chunk; the iterator goes on from how the last one ended.

        Raises:
            NotNow: nobody waits for the chunk, and whoever has it is busy.
        """

    def choose(self, content: Content, wanted: int, first: int) -> int:
        """Which chunk to fetch next of those that nobody waits for.

        `wanted` has bit i set for each such chunk i and is not 0; `first` is where the client reads.
        """


class Upstream(Source, Protocol):
    """What the reader and the resolver need of upstream beside its offers."""

    async def stat(self, location: Location) -> Stat:
        """Size and validator of a blob or file, asked of upstream now. Raises UpstreamError or ContentUnknown."""

    async def fetch_all(self, location: Location, sink: Sink) -> None:
        """Put the whole body, of whatever length, into `sink`; raises as `Offer.fetch` does."""

    async def manifest_digest(self, location: ManifestInRegistry) -> tuple[Digest, str, int]:
        """Digest, media type and size in bytes of what a tag names now (HEAD, or GET where HEAD does not say)."""

    async def manifest(self, location: ManifestInRegistry) -> tuple[bytes, str]:
        """A manifest by tag or digest (at most 4 MiB, else SourceLied) and its media type. The digest is checked by the caller."""


class Catalogue(Protocol):
    """Who may know of a content, or of a name, without upstream being asked: other members, containerd's store."""

    async def find(self, keys: Sequence[ContentKey]) -> Stat | None:
        """Size and media type of a content that is held under any of `keys`; None when nobody says so."""

    async def resolve(self, name: Name) -> Resolution | None:
        """What a tag or URL stands for, as somebody remembers it."""


class Delegate(Protocol):
    """The member that asks upstream for all what names stand for, and for manifests, so that upstream is asked once."""

    async def resolve(self, name: Name, location: ManifestInRegistry | FileAtUrl) -> Resolution | None:
        """What a name stands for now; None where this node asks upstream by itself."""

    async def manifest(self, location: ManifestInRegistry) -> tuple[bytes, str] | None:
        """A manifest by digest, not yet checked, and its media type; None where this node asks upstream by itself."""


class Nobody:
    """The delegate of a node that is alone, or is the delegate itself."""

    async def resolve(self, name: Name, location: ManifestInRegistry | FileAtUrl) -> Resolution | None:  # noqa: ARG002
        """There is nobody."""
        return None

    async def manifest(self, location: ManifestInRegistry) -> tuple[bytes, str] | None:  # noqa: ARG002
        """There is nobody."""
        return None
