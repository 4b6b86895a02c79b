"""Upstream as a source of chunks: what `app.content.source.Upstream` promises.

Owns: the wiring of this room and the three tries that a chunk gets. Bytes are trusted as far as `body` checks them: they
come from where the client pointed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Self, assert_never

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.location import BlobInRegistry, FileAtUrl, Location, ManifestInRegistry
from app.content.source import Content, Offer, Sink, SourceKind, Stat
from app.errors import RangesUnsupported, SourceUnavailable, UpstreamUnavailable
from app.http1 import Response
from app.upstream.blob_store import BlobStore
from app.upstream.body import check_part, check_whole, pour
from app.upstream.config import RegistryNames, UpstreamConfig, policy
from app.upstream.connections import ByteConnections, IdleConnections
from app.upstream.control import ControlClient
from app.upstream.credentials import CredentialFile
from app.upstream.exchange import Answer, Hop, Send
from app.upstream.first_look import first_look
from app.upstream.guard import Guard, Resolve, resolve
from app.upstream.locations import Locations
from app.upstream.patience import Patience, Waiting
from app.upstream.pinned import Dialler
from app.upstream.redact import silence_libraries
from app.upstream.registry import Registry
from app.upstream.remembered import Remembered
from app.upstream.token import Tokens
from app.upstream.url import UpstreamUrl

_ATTEMPTS = 3
# A first look at a server that knows no ranges gets the whole; up to this much is read to keep the connection.
_FIRST_LOOK_BYTES_MAX = 64 * 1024
_IDENTITY = {"Accept-Encoding": "identity", "User-Agent": "peerd"}


class UpstreamSource:
    """Registries and blob stores, behind one guard. Made by `open`."""

    def __init__(
        self,
        *,
        registry: Registry,
        blob_store: BlobStore,
        locations: Locations,
        client: ControlClient,
        connections: ByteConnections,
        patience: Patience,
    ) -> None:
        self._registry = registry
        self._blob_store = blob_store
        self._locations = locations
        self._client = client
        self._connections = connections
        self._patience = patience

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: UpstreamConfig,
        executor: Executor,
        *,
        on_refused: Callable[[str], None] = lambda _reason: None,
        patience: Patience | None = None,
        resolve: Resolve = resolve,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 5.0,
        answer_timeout_seconds: float = 30.0,
    ) -> AsyncIterator[Self]:
        """Upstream by these options, until the block ends.

        Args:
            config: the options. What can not be meant in them is a ValueError.
            executor: its threads do the transfers; one each at a time.
            on_refused: told the reason each time that the guard refuses.
            patience: how long a busy upstream is waited for; with the clock, the sleep and the randomness.
            resolve: DNS.
            connect_timeout_seconds: for TCP, and for TLS.
            read_timeout_seconds: without progress.
            answer_timeout_seconds: for a whole answer to a control call; 4 MiB at 140 KiB/s take as long.
        """
        silence_libraries()
        patience = patience or Patience()
        names = RegistryNames(config)
        guard = Guard(
            policy(config, names),
            config.proxies,
            on_refused=on_refused,
            resolve=resolve,
            timeout_seconds=connect_timeout_seconds,
        )
        credentials = CredentialFile(config.auth_file)
        await asyncio.to_thread(credentials.check)
        dialler = Dialler(await asyncio.to_thread(_tls, config), connect_timeout_seconds, read_timeout_seconds)
        client = ControlClient(
            guard,
            await asyncio.to_thread(_tls, config),
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
            answer_timeout_seconds=answer_timeout_seconds,
        )
        idle = IdleConnections()
        shown: Remembered[str | None] = Remembered()
        found: Remembered[UpstreamUrl] = Remembered()
        async with client:
            tokens = Tokens(client, guard, credentials, shown)
            try:
                yield cls(
                    registry=Registry(names, guard, tokens, client, patience),
                    blob_store=BlobStore(guard),
                    locations=Locations(guard, found),
                    client=client,
                    connections=ByteConnections(guard, dialler, executor, idle),
                    patience=patience,
                )
            finally:
                idle.close()

    def offers(self, content: Content, chunk: int) -> Iterator[Offer]:  # noqa: ARG002 -- upstream has all chunks alike
        """Up to three tries; none where it is not known where upstream has the content."""
        if content.location is not None:
            for attempt in range(_ATTEMPTS):
                yield _Attempt(self, content, content.location, attempt)

    async def stat(self, location: Location, *, alone: bool = False) -> Stat:
        """Size and validator of a blob or file, asked of upstream now. Raises UpstreamError, ContentUnknown or SourceLied.

        `alone`: with the client's credential and no other, and where the client said, not where it was found before.
        """

        async def ask_for(headers: Mapping[str, str]) -> Answer:
            async def send(hop: Hop) -> Answer:
                return await self._client.send("GET", hop, headers=headers, body_bytes_max=_FIRST_LOOK_BYTES_MAX)

            waiting = self._patience.begin()
            return await (self._ask_alone(location, send, waiting) if alone else self._ask(location, send, waiting))

        return await first_look(ask_for, str(location))

    async def manifest_digest(self, location: ManifestInRegistry, *, alone: bool = False) -> tuple[Digest, str, int]:
        """Digest, media type and size in bytes of what a tag names now; `alone` and errors as `stat`."""
        return await self._registry.manifest_digest(location, alone=alone)

    async def manifest(self, location: ManifestInRegistry) -> tuple[bytes, str]:
        """A manifest's bytes, at most 4 MiB and not checked against their digest, and its media type; raises likewise."""
        return await self._registry.manifest(location)

    async def fetch_all(self, location: Location, sink: Sink) -> None:
        """Put the whole of a content of unknown size into `sink`, and return when it has ended as it should.

        Raises:
            SourceUnavailable: it ended too early, or could not be asked.
            UpstreamError, ContentUnknown, SourceLied: as `stat`.
        """
        anything = Stat(size=None, validator=None, ranged=False)

        def check(answer: Answer) -> None:
            check_whole(answer, anything, immutable=False)

        await self._transfer(location, _IDENTITY, check, lambda response: pour(response, sink, None))

    async def fetch(self, content: Content, location: Location, span: ByteRange, sink: Sink) -> None:
        """Put `span` of `content` into `sink`; what an offer does, without its backing off."""
        stat, immutable = content.stat, isinstance(location, BlobInRegistry)
        if not stat.ranged and span.start > 0:
            raise RangesUnsupported(f"upstream of {location} can only be read from the beginning")
        whole = span.covers(content.size) or not stat.ranged

        def check(answer: Answer) -> None:
            if whole:
                check_whole(answer, stat, immutable=immutable)
            else:
                check_part(answer, span, stat, immutable=immutable)

        await self._transfer(
            location,
            _IDENTITY if whole else _part_headers(span, stat, immutable=immutable),
            check,
            lambda response: pour(response, sink, len(span), from_whole=whole and not span.covers(content.size)),
        )

    async def _transfer(
        self,
        location: Location,
        headers: Mapping[str, str],
        check: Callable[[Answer], None],
        take: Callable[[Response], bool],
    ) -> None:
        """Ask for bytes; `check` judges each final answer, and `take` takes the body of one that passed, in a thread."""

        def receive(answer: Answer, response: Response) -> bool:
            check(answer)
            return take(response)

        async def send(hop: Hop) -> Answer:
            return await self._connections.exchange(hop, headers, receive)

        try:
            answer = await self._ask(location, send, self._patience.begin(quick_retries=0))
            if answer.status not in (200, 206):  # Those were judged before their bodies were taken.
                check(answer)
        except UpstreamUnavailable as error:
            # Another try, or a member that has it by now, may do better; only a busy upstream wants to be left alone.
            if error.retry_after_seconds is not None:
                raise
            raise SourceUnavailable(str(error)) from error

    async def _ask(self, location: Location, send: Send, waiting: Waiting) -> Answer:
        """The answer for a blob or file, wherever it is by now."""
        match location:
            case BlobInRegistry():
                origin = self._registry.blob_url(location)
                return await self._locations.ask(
                    location, origin, send, lambda: self._registry.ask_for_blob(location, send, waiting), waiting
                )
            case FileAtUrl():
                origin = self._blob_store.url(location)
                return await self._locations.ask(
                    location, origin, send, lambda: self._blob_store.ask_for_file(location, send, waiting), waiting
                )
            case _:
                assert_never(location)

    async def _ask_alone(self, location: Location, send: Send, waiting: Waiting) -> Answer:
        """The answer for a blob or file to a client that asks by itself."""
        match location:
            case BlobInRegistry():
                _, answer = await self._registry.ask_for_blob(location, send, waiting, alone=True)
            case FileAtUrl():
                _, answer = await self._blob_store.ask_for_file(location, send, waiting)
            case _:
                assert_never(location)
        return answer

    async def back_off(self, attempt: int) -> None:
        """Pause at random before try number `attempt`, counted from 0."""
        if attempt:
            await self._patience.sleep(self._patience.pause_seconds(attempt))


class _Attempt:
    """One try at upstream; an Offer."""

    kind = SourceKind.UPSTREAM
    trusted = True

    def __init__(self, source: UpstreamSource, content: Content, location: Location, attempt: int) -> None:
        self._source = source
        self._content = content
        self._location = location
        self._attempt = attempt

    @property
    def name(self) -> str:
        """Upstream's host, or the registry's name."""
        return self._location.host

    async def fetch(self, span: ByteRange, sink: Sink) -> None:
        """As `Offer.fetch`; tries after the first pause before they ask."""
        await self._source.back_off(self._attempt)
        await self._source.fetch(self._content, self._location, span, sink)

    def __repr__(self) -> str:
        return f"<upstream {self._location}, try {self._attempt + 1} of {_ATTEMPTS}>"


def _part_headers(span: ByteRange, stat: Stat, *, immutable: bool) -> dict[str, str]:
    """A range request; `If-Range` where upstream's own word can keep versions apart (RFC 9110, section 13.1.5)."""
    headers = {**_IDENTITY, "Range": f"bytes={span.start}-{span.stop - 1}"}
    if not immutable and stat.validator is not None and stat.validator.etag is not None:
        headers["If-Range"] = stat.validator.etag
    return headers


def _tls(config: UpstreamConfig) -> ssl.SSLContext:
    """Whose certificates are believed: those of `--upstream-ca`, else the system's. Blocks on the disk."""
    try:
        return ssl.create_default_context(cafile=config.ca)
    except OSError as error:
        raise ValueError(f"--upstream-ca {config.ca} can not be used: {error.strerror or error}") from error
