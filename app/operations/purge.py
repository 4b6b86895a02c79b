"""Forgetting content: on this node, and on all members at once.

A content goes from the cache, and with it from the index. Those who read it go on reading, and what containerd holds stays
there. An image goes with those of its parts that no other held image needs, whichever tags still name it: who asks for such a
tag again fetches it anew.
"""

import asyncio
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from app.content.cache import ChunkCache
from app.content.digest import Digest
from app.content.entry import Entry
from app.content.key import ContentKey, canonical_url
from app.content.names import Name
from app.content.resolver import Resolver
from app.content.threads import Threads
from app.content.url_digest import digest_in_url
from app.errors import BadRequest, SourceError
from app.operations.documents import Forgotten, PurgeOrder
from app.operations.held_images import named_by, needed_only_by
from app.operations.others import Others
from app.operations.targets import File, Image, Target, parse_target

log = logging.getLogger(__name__)


class Purger:
    """Forgets content on this node."""

    def __init__(
        self, cache: ChunkCache, resolver: Resolver, *, threads: Threads, registry_hosts: Collection[str]
    ) -> None:
        self._cache = cache
        self._resolver = resolver
        self._threads = threads
        self._registry_hosts = registry_hosts

    def digest_of(self, target: Target) -> Digest | None:
        """What a target's tag stands for, as this node remembers it."""
        if isinstance(target, Image) and target.name is not None:
            known = self._resolver.remembered(target.name)
            return known.digest if known is not None else None
        return None

    async def purge(self, order: PurgeOrder) -> Forgotten:
        """Forget what is held of a target, in all its versions. Raises BadRequest where the target can not be meant."""
        target = parse_target(order.target)
        match target:
            case ContentKey():
                doomed, name = list(self._under_key(target)), None
            case File():
                doomed, name = list(self._versions(target)), Name.of_url(target.url)
            case Image():
                digests = (
                    {target.reference.digest} if target.reference.digest else {self.digest_of(target), order.digest}
                )
                doomed, name = await self._images(digests), target.name
        names = 0
        if name is not None and self._resolver.remembered(name) is not None:
            await self._resolver.forget(name)
            names = 1
        freed = sum(self._cache.forget(entry) for entry in doomed)
        if doomed or names:
            log.info("%s was purged: %d contents, %d bytes", target, len(doomed), freed)
        return Forgotten(freed, len(doomed), names)

    def _under_key(self, key: ContentKey) -> Iterator[Entry]:
        """A digest means what was proved and every part that only claims to be."""
        for entry in self._cache:
            if entry.meta.key == key or (entry.meta.digest is not None and str(entry.meta.digest) == key.text):
                yield entry

    def _versions(self, file: File) -> Iterator[Entry]:
        """All versions of a URL. Keys can not be read backwards, but each content says which version it would be."""
        digest = digest_in_url(file.url, registry_hosts=self._registry_hosts)
        for entry in self._cache:
            validator = entry.meta.validator
            is_version = validator is not None and entry.meta.key == ContentKey.of_url(file.url, validator)
            if is_version or (digest is not None and entry.meta.digest == digest):
                yield entry

    async def _images(self, digests: Collection[Digest | None]) -> list[Entry]:
        graph = {
            entry.meta.digest: await self._named_by(entry)
            for entry in self._cache
            if entry.meta.digest is not None and entry.meta.kind == "manifest" and entry.whole
        }
        doomed = {part for digest in digests if digest is not None for part in needed_only_by(digest, graph)}
        return [entry for entry in self._cache if entry.meta.digest in doomed]

    async def _named_by(self, entry: Entry) -> frozenset[Digest]:
        try:
            file = entry.file()
            data = await self._threads.disk(os.pread, file.fileno(), entry.meta.size, 0)
        except OSError as error:
            log.warning("manifest %s can not be read: %s; it is taken to need nothing", entry.meta.key, error)
            return frozenset()
        return named_by(data, entry.meta.media_type or "")


@dataclass(frozen=True, slots=True)
class NodePurge:
    """What became of a purge on one node. `error` says why it could not be asked."""

    node: str
    forgotten: Forgotten
    error: str | None = None


class Purges:
    """Forgets content here or everywhere."""

    def __init__(self, me: str, purger: Purger, others: Others) -> None:
        self._me = me
        self._purger = purger
        self._others = others

    async def purge(self, text: str, *, all_nodes: bool) -> list[NodePurge]:
        """Forget what `text` names, this node first in the list. Raises BadRequest; other nodes' errors are in the list."""
        target = parse_target(text)
        # What only signs a URL does not say which one it is, and is nobody else's business.
        spelled = canonical_url(target.url) if isinstance(target, File) else text
        order = PurgeOrder(spelled, self._purger.digest_of(target))
        others = self._others.live() if all_nodes else ()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._ask(other.name, order)) for other in others]
            here = NodePurge(self._me, await self._purger.purge(order))
        return [here, *(task.result() for task in asked)]

    async def _ask(self, node: str, order: PurgeOrder) -> NodePurge:
        try:
            return NodePurge(node, await self._others.purge(node, order))
        except (SourceError, BadRequest) as error:
            return NodePurge(node, Forgotten(), str(error))
