"""The asking side of orders: what operations want of other members, over the peer door.

Blocking requests have threads of their own: a member that is slow to answer an order keeps no chunk waiting.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self, TypeVar

from app.errors import SourceLied, SourceUnavailable
from app.operations.documents import BringOrder, BringProgress, Forgotten, Load, PurgeOrder
from app.operations.others import OtherNode
from app.swarm import protocol
from app.swarm.asking import Answer
from app.swarm.peer_client import Declined, PeerClient
from peerd_gossip import Member, MemberState

AT_ONCE = 8

Document = TypeVar("Document")


class Roster(Protocol):
    """What is needed of gossip."""

    @property
    def me(self) -> Member:
        """This node."""

    def members(self) -> list[tuple[Member, MemberState]]:
        """Everybody who is known."""

    def member(self, name: str) -> Member | None:
        """The member of this name."""


class MembersAtTheDoor:
    """The other live members, asked through their peer doors. `async with` ends its threads."""

    def __init__(self, gossip: Roster, client: PeerClient) -> None:
        self._gossip = gossip
        self._client = client
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="order")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def live(self) -> Sequence[OtherNode]:
        """Those that are alive now and have a peer door."""
        return [
            OtherNode(member.name, member.zone)
            for member, state in self._gossip.members()
            if state is MemberState.ALIVE and member.peer_addr and member.name != self._gossip.me.name
        ]

    async def purge(self, name: str, order: PurgeOrder) -> Forgotten:
        """See `Others.purge`."""
        return await self._ask(name, protocol.PURGE_PATH, order.to_json(), Forgotten.from_json)

    async def bring(self, name: str, order: BringOrder) -> None:
        """See `Others.bring`."""
        await self._ask(name, protocol.BRING_PATH, order.to_json(), BringProgress.from_json)

    async def progress(self, name: str, identity: str) -> BringProgress:
        """See `Others.progress`."""
        try:
            return await self._ask(name, protocol.progress_path(identity), None, BringProgress.from_json)
        except Declined as error:
            if error.answer is not Answer.LACKS:
                raise
            raise SourceUnavailable(
                f"{name} knows nothing of the order any more; it was restarted meanwhile"
            ) from error

    async def load(self, name: str) -> Load:
        """See `Others.load`."""
        return await self._ask(name, protocol.LOAD_PATH, None, Load.from_json)

    async def _ask(self, name: str, path: str, order: bytes | None, read: Callable[[bytes], Document]) -> Document:
        member = self._gossip.member(name)
        if member is None:
            raise SourceUnavailable(f"{name} is no member any more")
        loop = asyncio.get_running_loop()
        try:
            if order is None:
                text = await loop.run_in_executor(self._threads, self._client.get_document, member, path)
            else:
                text = await loop.run_in_executor(self._threads, self._client.post_order, member, path, order)
            return read(text)
        except Declined as error:
            if error.answer is not Answer.BUSY:
                raise
            raise SourceUnavailable(f"{name} has enough such orders at work; ask again when they have ended") from error
        except ValueError as error:
            raise SourceLied(f"{name} answered {path} with something else: {error}") from error
