"""What a tag or a URL stands for now: asked of upstream, believed for a while, and remembered for when upstream is away."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from aiocache import SimpleMemoryCache

from app.content import advertised
from app.content.cache import HeldListener
from app.content.names import Name, NameTable, Resolution
from app.content.single_flight import SingleFlight, look_at
from app.content.source import Catalogue
from app.errors import ContentUnknown, UpstreamUnavailable

log = logging.getLogger(__name__)

UPSTREAM_PATIENCE_SECONDS = 2.0
"""How long upstream's word is waited for where somebody remembers what it said before: less than `--mirror-timeout`, so that a
registry whose packets are dropped does as little harm as one that refuses them."""

UPSTREAM_AWAY_SECONDS = 5.0
"""How long what was remembered is answered at once after upstream could not be reached, before it is tried again."""


class Resolver:
    """Names to what they stand for."""

    def __init__(
        self,
        table: NameTable,
        catalogues: Sequence[Catalogue],
        *,
        ttl_seconds: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._catalogues = catalogues
        self._ttl_seconds = ttl_seconds
        self._wall_clock = wall_clock
        self._believed = SimpleMemoryCache(timeout=0)  # Else each look at it is a task of its own.
        self._asking: SingleFlight[tuple[Name, Hashable], Resolution] = SingleFlight()
        self.listener: HeldListener | None = None

    def advertised(self) -> Iterable[str]:
        """Every name that is known here, e.g. after a start."""
        return (advertised.name(name.identity) for name in self._table)

    def remembered(self, name: Name) -> Resolution | None:
        """What is known here, however old; for members that ask."""
        return self._table.get(name)

    async def resolve(
        self, name: Name, ask: Callable[[], Awaitable[Resolution]] | None, *, access: Hashable = None
    ) -> Resolution:
        """What `name` stands for; `ask` asks upstream, None where upstream may not be asked.

        Those who ask at the same time with the same `access` (a credential, a signed URL) ask once, and are refused together.

        Raises:
            ContentUnknown: upstream does not know the name, or may not be asked.
            UpstreamError: upstream's word, where nobody remembers the name either.
        """
        believed: Resolution | None = await self._believed.get(name.identity)
        if believed is not None:
            return believed
        return await self._asking.ask((name, access), lambda: self._resolve(name, ask))

    async def _resolve(self, name: Name, ask: Callable[[], Awaitable[Resolution]] | None) -> Resolution:
        if ask is None:
            raise ContentUnknown(
                "what a name stands for is upstream's to say, and this node asks none (--no-pull-through)"
            )
        asking = asyncio.get_running_loop().create_task(_answer(ask), name=f"ask upstream for {name.identity}")
        # A connection that fails at the moment of `cancel` says so, and not that it was cancelled.
        asking.add_done_callback(look_at)
        try:
            done, _ = await asyncio.wait({asking}, timeout=UPSTREAM_PATIENCE_SECONDS)
            if not done:
                silent = UpstreamUnavailable(f"upstream says nothing for {UPSTREAM_PATIENCE_SECONDS:g} s")
                remembered = await self._from_memory(name, silent)
                if remembered is not None:
                    return remembered
            found = replace(await asking, seen_at=self._wall_clock())
        except ContentUnknown:
            await self.forget(name)
            raise
        except UpstreamUnavailable as error:
            remembered = await self._from_memory(name, error)
            if remembered is None:
                raise
            return remembered
        finally:
            asking.cancel()
        await self._remember(name, found)
        return found

    async def _from_memory(self, name: Name, away: UpstreamUnavailable) -> Resolution | None:
        """What was remembered here or elsewhere, while upstream is away; None where nobody does."""
        remembered = self._table.get(name)
        if remembered is None:
            remembered = await self._ask_others(name)
        if remembered is not None:
            log.warning("%s; answered from what is remembered", away)
            await self._believed.set(name.identity, remembered, ttl=min(self._ttl_seconds, UPSTREAM_AWAY_SECONDS))
        return remembered

    async def _ask_others(self, name: Name) -> Resolution | None:
        for catalogue in self._catalogues:
            found = await catalogue.resolve(name)
            if found is not None:
                self._keep(name, found)
                return found
        return None

    async def _remember(self, name: Name, found: Resolution) -> None:
        known = self._table.get(name)
        # Content without a validator is not kept, so there is nothing to come back to when upstream is away.
        if found.digest is not None or found.validator is not None:
            if known is None or known != found or found.seen_at - known.seen_at > self._ttl_seconds:
                self._keep(name, found)
            if self._ttl_seconds:
                await self._believed.set(name.identity, found, ttl=self._ttl_seconds)

    def _keep(self, name: Name, found: Resolution) -> None:
        forgotten = self._table.put(name, found)
        if self.listener is not None:
            self.listener.held([advertised.name(name.identity)])
            if forgotten:
                self.listener.gone([advertised.name(old.identity) for old in forgotten])

    async def forget(self, name: Name) -> None:
        """Upstream is asked again next time."""
        await self._believed.delete(name.identity)
        if self._table.forget(name) and self.listener is not None:
            self.listener.gone([advertised.name(name.identity)])

    async def disbelieve(self, name: Name) -> None:
        """Upstream is asked at the next occasion; until it answers, what was remembered still is."""
        await self._believed.delete(name.identity)


async def _answer(ask: Callable[[], Awaitable[Resolution]]) -> Resolution:
    return await ask()
