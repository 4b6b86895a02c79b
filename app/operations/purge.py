"""Forgetting content: on this node, and on all members at once.

A content goes from the cache, and with it from the index. Those who read it go on reading, and what containerd holds stays
there. An image goes with those of its parts that no other held image needs, whichever tags still name it: who asks for such a
tag again fetches it anew.
"""

import asyncio
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

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
from app.operations.held_images import Graph, named_by, needed_only_by
from app.operations.others import Others
from app.operations.targets import File, Image, parse_target

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

    async def purge(self, order: PurgeOrder) -> Forgotten:
        """Forget what is held of a target, in all its versions. Raises BadRequest where the target can not be meant."""
        target = parse_target(order.target)
        roots: frozenset[Digest] = frozenset()
        parts: Collection[Digest] = ()
        match target:
            case ContentKey():
                doomed, name = list(self._under_key(target)), None
            case File():
                doomed, name = list(self._versions(target)), Name.of_url(target.url)
            case Image():
                roots = self._roots(target) | order.roots
                parts = needed_only_by(roots, await self._graph(), order.parts)
                doomed = [entry for entry in self._cache if entry.meta.digest in parts]
                name = target.name
        names = 0
        if name is not None and self._resolver.remembered(name) is not None:
            await self._resolver.forget(name)
            names = 1
        freed = sum(self._cache.forget(entry) for entry in doomed)
        if doomed or names:
            log.info("%s was purged: %d contents, %d bytes", target, len(doomed), freed)
        return Forgotten(freed, len(doomed), names, roots, frozenset(parts))

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

    def _roots(self, image: Image) -> frozenset[Digest]:
        """What an image's name stands for, as far as this node knows."""
        if image.reference.digest is not None:
            return frozenset([image.reference.digest])
        known = self._resolver.remembered(image.name) if image.name is not None else None
        return frozenset([known.digest] if known is not None and known.digest is not None else [])

    async def _graph(self) -> Graph:
        return {
            entry.meta.digest: await self._named_by(entry)
            for entry in self._cache
            if entry.meta.digest is not None and entry.meta.kind == "manifest" and entry.whole
        }

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
        nodes = [self._me, *(other.name for other in self._others.live())] if all_nodes else [self._me]
        order = PurgeOrder(spelled)
        first = await self._ask_all(nodes, order)
        # Somebody holds the manifest that says what belongs to the image; others hold layers, or chunks of them, without it.
        roots = frozenset(digest for one in first for digest in one.forgotten.roots)
        parts = frozenset(digest for one in first for digest in one.forgotten.parts)
        lacking = [one.node for one in first if not one.error and not one.forgotten.parts >= parts]
        later = {one.node: one for one in await self._ask_all(lacking, replace(order, roots=roots, parts=parts))}
        return [_together(one, later.get(one.node)) for one in first]

    async def _ask_all(self, nodes: Sequence[str], order: PurgeOrder) -> list[NodePurge]:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._ask(node, order)) for node in nodes]
        return [task.result() for task in asked]

    async def _ask(self, node: str, order: PurgeOrder) -> NodePurge:
        try:
            if node == self._me:
                return NodePurge(node, await self._purger.purge(order))
            return NodePurge(node, await self._others.purge(node, order))
        except (SourceError, BadRequest) as error:
            return NodePurge(node, Forgotten(), str(error))


def _together(first: NodePurge, later: NodePurge | None) -> NodePurge:
    if later is None:
        return first
    return NodePurge(first.node, first.forgotten + later.forgotten, later.error)
